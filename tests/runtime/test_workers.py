"""Processes that share work, with and without torchrun."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lca.errors import LCAError
from lca.runtime import workers as workers_module
from lca.runtime.workers import Phase, Workers, agree_on_session, count_sharing, is_first, join_workers, share_device

CPU = torch.device("cpu")


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of the second of four processes that torchrun has restarted once."""
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "1",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(workers_module, "count_cores", lambda: 13)
    return monkeypatch


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_single_process_gets_every_index_once_in_order():
    alone = join_workers()
    assert (alone.rank, alone.size, alone.first) == (0, 1, True)
    assert list(alone.take(Phase.BLOCKS, 3)) == [0, 1, 2]
    assert list(alone.take(Phase.BLOCKS, 3)) == []
    assert list(alone.take(Phase.AUDITED, 1)) == [0]  # phases are counted separately


def test_two_processes_share_the_indices():
    store = workers_module._Alone()
    one, two = Workers(store, 0, 2), Workers(store, 1, 2)
    assert not two.first
    a, b = one.take(Phase.BLOCKS, 5), two.take(Phase.BLOCKS, 5)
    taken = [next(a), next(b), next(b), next(a), next(b)]
    assert taken == [0, 1, 2, 3, 4]
    assert list(a) == list(b) == []


def test_counters_are_shared_and_waiting_ends_when_one_is_reached():
    store = workers_module._Alone()
    one, two = Workers(store, 0, 2), Workers(store, 1, 2)
    assert one.add(Phase.OPENED, 2) == 2
    polls = []
    one.wait(Phase.OPENED, 4, meanwhile=lambda: polls.append(two.add(Phase.OPENED)))
    assert polls == [3, 4]


def test_a_published_value_is_read_by_the_others():
    store = workers_module._Alone()
    Workers(store, 0, 2).publish("plan", {"blocks": [3, 4], "batch_size": None})
    assert Workers(store, 1, 2).read("plan") == {"blocks": [3, 4], "batch_size": None}


def test_processes_agree_on_a_new_session_at_every_start(monkeypatch):
    """The store still contains requests of processes that died before they agreed on a session."""
    monkeypatch.setattr(workers_module, "POLL_S", 0.001)
    store = workers_module._Alone()
    store.set("asking/1", "dead")
    store.set("asking/2", "dead too")
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            sessions = {pool.submit(agree_on_session, store, rank, 3).result for rank in (2, 0, 1)}
            assert len({result(timeout=10) for result in sessions}) == 1
    assert len({key for key in store.numbers if key.startswith("met/")}) == 3


def test_waiting_for_a_silent_process_is_an_error(monkeypatch):
    now, store = [0.0], workers_module._Alone()
    monkeypatch.setattr(workers_module.time, "monotonic", lambda: now[0])
    one = Workers(store, 0, 3)

    def later(*_):
        now[0] += 1
        store.add("beats/1", 1)
        if now[0] < 300:
            store.add("beats/2", 1)

    monkeypatch.setattr(workers_module.time, "sleep", later)
    with pytest.raises(
        LCAError, match=r"process 2 of 3 has not responded for 120 s.*start all processes again without overwrite"
    ):
        one.wait(Phase.BLOCKS, 1)
    assert 410 < now[0] < 430


def test_a_worker_sends_heartbeats_until_it_leaves(monkeypatch):
    monkeypatch.setattr(workers_module, "BEAT_S", 0.001)
    store = workers_module._Alone()
    with Workers(store, 1, 2):
        while store.add("beats/1", 0) < 3:
            pass
    assert not store.values


def test_a_process_without_torchrun_uses_the_whole_machine(threads):
    before = torch.get_num_threads()
    assert share_device(CPU) == CPU
    assert torch.get_num_threads() == before
    assert is_first()
    assert count_sharing(CPU) == 1


def test_processes_under_torchrun_divide_the_cores(torchrun, threads):
    torchrun.setenv("OMP_NUM_THREADS", "1")  # the default that torchrun sets
    assert share_device(CPU) == CPU
    assert torch.get_num_threads() == 13 // 4
    assert count_sharing(CPU) == 4
    torchrun.setattr("torch.accelerator.device_count", lambda: 4)
    assert count_sharing(torch.device("cuda")) == 1
    torchrun.setattr("torch.accelerator.device_count", lambda: 3)
    assert count_sharing(torch.device("cuda")) == 2
    assert not is_first()


def test_a_number_of_threads_set_by_the_user_is_kept(torchrun, threads):
    torch.set_num_threads(2)
    torchrun.setenv("OMP_NUM_THREADS", "2")
    share_device(CPU)
    assert torch.get_num_threads() == 2


def test_devices_are_assigned_by_local_rank(torchrun):
    chosen = []
    torchrun.setattr("torch.accelerator.device_count", lambda: 3)
    torchrun.setattr("torch.accelerator.set_device_index", chosen.append)
    torchrun.setenv("LOCAL_RANK", "2")
    assert share_device(torch.device("cuda")) == torch.device("cuda", 2)
    torchrun.setenv("LOCAL_RANK", "3")  # more processes than devices share them
    assert share_device(torch.device("cuda")) == torch.device("cuda", 0)
    assert chosen == [torch.device("cuda", 2), torch.device("cuda", 0)]
