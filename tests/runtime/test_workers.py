"""Several processes under torchrun, against one."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import lca
from lca.allocation.allocate import _require_one_data
from lca.errors import LCAError
from lca.runtime import join_workers as workers_module
from lca.runtime.workers import Workers, count_cores, count_sharing, is_first, join_workers, meet, share_device

CPU = torch.device("cpu")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
OPTIONS = ["--batch-size", "500", "--device", "cpu", "--by-class", "--audit", "0.02"]
THREADS = max(1, count_cores() // 2)  # what each of two processes takes


def command(path, name):
    return ["-m", "lca", "allocate", str(path), "--name", name, *OPTIONS]


def environment(**variables):
    return {**{key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}, **variables}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run, and its allocation "one" by one process."""
    path = tmp_path_factory.mktemp("workers") / "run.zarr"
    lca.train(lca.load("digits-fc"), path, lca.TrainConfig(iterations=1000, device="cpu"))
    same_threads = environment(OMP_NUM_THREADS=str(THREADS))
    subprocess.run([sys.executable, *command(path, "one")], check=True, capture_output=True, env=same_threads)
    return path


def require_equal(path, name):
    one, many = (lca.open(path).allocation(n) for n in ("one", name))
    assert many.complete
    for array in one.arrays:
        np.testing.assert_array_equal(getattr(one, array)[:], getattr(many, array)[:], err_msg=array)
    assert one.attributes["audit_result"] == many.attributes["audit_result"]


def test_two_processes_give_what_one_gives(digits):
    two = [*TORCHRUN, *command(digits, "two")]
    done = subprocess.run(two, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    require_equal(digits, "two")
    assert done.stdout.count("allocated ") == 1  # one of them speaks
    assert "bounds               hold" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the workers are found in /proc, which Linux has")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_is_started_again_and_nothing_differs(digits, rank):
    name = f"killed-{rank}"
    process = subprocess.Popen(
        [*TORCHRUN, "--max-restarts=2", *command(digits, name)], stderr=subprocess.PIPE, env=environment()
    )
    status, deadline = digits / "lca" / name / "status" / "c", time.monotonic() + 60
    while not (status.exists() and any(status.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    of_rank = {environ_of(child).get("RANK"): int(child) for child in children}
    os.kill(of_rank[str(rank)], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert b"exitcode: -9" in errors
    require_equal(digits, name)


def environ_of(pid):
    return dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line)


def test_alone_every_index_comes_once_and_in_order():
    alone = join_workers()
    assert (alone.rank, alone.size, alone.first) == (0, 1, True)
    assert list(alone.take("blocks", 3)) == [0, 1, 2]
    assert list(alone.take("blocks", 3)) == []
    assert list(alone.take("audit", 1)) == [0]  # counted apart


def test_two_share_the_indices():
    store = workers_module._Alone()
    one, two = Workers(store, 0, 2), Workers(store, 1, 2)
    assert not two.first
    a, b = one.take("blocks", 5), two.take("blocks", 5)
    taken = [next(a), next(b), next(b), next(a), next(b)]
    assert taken == [0, 1, 2, 3, 4]
    assert list(a) == list(b) == []


def test_counts_are_joint_and_waiting_ends_when_they_are_reached():
    store = workers_module._Alone()
    one, two = Workers(store, 0, 2), Workers(store, 1, 2)
    assert one.count("ready", 2) == 2
    polls = []
    one.wait("ready", 4, meanwhile=lambda: polls.append(two.count("ready")))
    assert polls == [3, 4]


def test_what_one_tells_the_other_hears():
    store = workers_module._Alone()
    Workers(store, 0, 2).tell("plan", {"blocks": [3, 4], "batch_size": None})
    assert Workers(store, 1, 2).told("plan") == {"blocks": [3, 4], "batch_size": None}


def test_every_process_has_to_have_the_whole_split():
    """Not a part of its own, as a data set may give it that shares itself out."""
    store, whole = workers_module._Alone(), (torch.arange(10.0), torch.arange(10))
    one, two = Workers(store, 0, 2), Workers(store, 1, 2)
    _require_one_data(one, whole)
    _require_one_data(two, tuple(x.clone() for x in whole))
    for part in (tuple(x[:5] for x in whole), tuple(x.flip(0) for x in whole)):
        with pytest.raises(LCAError, match=rf"process 1 of 2 has {len(part[0])} examples, not the 10 of the first"):
            _require_one_data(two, part)


def test_all_of_a_start_meet_and_none_of_an_earlier_one(monkeypatch):
    """The store still has what the processes of a start before have left in it, in the middle of their meeting."""
    monkeypatch.setattr(workers_module, "POLL_S", 0.001)
    store = workers_module._Alone()
    store.set("asking/1", "dead")
    store.set("asking/2", "dead too")
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            sessions = {pool.submit(meet, store, rank, 3).result for rank in (2, 0, 1)}
            assert len({result(timeout=10) for result in sessions}) == 1
    assert len({key for key in store.numbers if key.startswith("met/")}) == 3


def test_who_shows_no_sign_of_life_is_not_waited_for(monkeypatch):
    now, store = [0.0], workers_module._Alone()
    monkeypatch.setattr(workers_module.time, "monotonic", lambda: now[0])
    one = Workers(store, 0, 3)

    def later(*_):
        now[0] += 1
        store.add("beats/1", 1)
        if now[0] < 300:
            store.add("beats/2", 1)

    monkeypatch.setattr(workers_module.time, "sleep", later)
    with pytest.raises(LCAError, match=r"process 2 of 3 has shown no sign of life for 120 s.*without --overwrite"):
        one.wait("blocks", 1)
    assert 410 < now[0] < 430


def test_a_worker_shows_that_it_lives_until_it_leaves(monkeypatch):
    monkeypatch.setattr(workers_module, "BEAT_S", 0.001)
    store = workers_module._Alone()
    with Workers(store, 1, 2):
        while store.add("beats/1", 0) < 3:
            pass
    assert not store.values


def test_a_second_allocation_of_the_same_processes_is_made_too(digits, tmp_path):
    """Counting begins anew, or it would seem done before it began."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, lca\n"
        "for name in ('first', 'second'):\n"
        "    config = lca.AllocateConfig(name=name, batch_size=500, iterations='0:70', audit=0, device='cpu')\n"
        "    lca.allocate(sys.argv[1], lca.load('digits-fc'), config, overwrite=True)\n"
    )
    done = subprocess.run([*TORCHRUN, str(script), str(digits)], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    first, second = (lca.open(digits).allocation(name) for name in ("first", "second"))
    assert (first.n_allocated, second.n_allocated) == (70, 70)
    np.testing.assert_array_equal(first.lca[:], second.lca[:])


def test_a_bound_that_fails_is_no_crash_under_torchrun(digits):
    options = ["--name", "strict", "--tolerance", "1e-12", "--max-intervals", "2", "--iterations", "0:3"]
    arguments = ["-m", "lca", "allocate", str(digits), *options, "--device", "cpu", "--batch-size", "500"]
    done = subprocess.run([*TORCHRUN, *arguments], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert "DO NOT HOLD" in done.stdout
    alone = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert (alone.returncode, "is finished already" in alone.stderr) == (3, True)


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of the second of four processes that torchrun has started again once."""
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "1",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(workers_module, "n_cores", lambda: 13)
    return monkeypatch


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_without_torchrun_a_process_has_everything(threads):
    before = torch.get_num_threads()
    assert share_device(CPU) == CPU
    assert torch.get_num_threads() == before
    assert is_first()
    assert count_sharing(CPU) == 1


def test_the_cores_are_divided(torchrun, threads):
    torchrun.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it where the user has not
    assert share_device(CPU) == CPU
    assert torch.get_num_threads() == 13 // 4
    assert count_sharing(CPU) == 4
    assert count_sharing(torch.device("cuda")) == 1
    assert not is_first()


def test_threads_that_the_user_asks_for_are_left(torchrun, threads):
    torch.set_num_threads(2)
    torchrun.setenv("OMP_NUM_THREADS", "2")
    share_device(CPU)
    assert torch.get_num_threads() == 2


def test_devices_are_dealt_out_by_local_rank(torchrun):
    chosen = []
    torchrun.setattr("torch.cuda.device_count", lambda: 3)
    torchrun.setattr("torch.cuda.set_device", chosen.append)
    torchrun.setenv("LOCAL_RANK", "2")
    assert share_device(torch.device("cuda")) == torch.device("cuda", 2)
    torchrun.setenv("LOCAL_RANK", "3")  # more processes than devices share them
    assert share_device(torch.device("cuda")) == torch.device("cuda", 0)
    assert chosen == [torch.device("cuda", 2), torch.device("cuda", 0)]


def test_a_restart_goes_on_where_a_start_would_overwrite(digits, torchrun):
    status = digits / "lca" / "one" / "status" / "c" / "0"
    before = status.stat().st_mtime_ns
    torchrun.setenv("RANK", "0")
    torchrun.setattr("lca.allocation.workers", lambda: Workers(workers_module._Alone(), restarted=True))
    config = lca.AllocateConfig(name="one", batch_size=500, by_class=True, audit=0.02, device="cpu")
    assert lca.allocate(digits, lca.load("digits-fc"), config, overwrite=True).within_bounds
    assert status.stat().st_mtime_ns == before
