"""Data sets in memory and streamed: the same examples, the same loss, the same allocation."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_problem
from datasets import Iterated, Listed, X, Y, losses
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import lca
from lca.allocation.batch_size import choose_batch_format
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError, UsageError
from lca.problem import streaming as stream
from lca.problem.batches import get_tensors, length
from lca.problem.objective import Objective
from lca.problem.streaming import StreamedDataset, prefetch, read_dataset

CPU = torch.device("cpu")


class Streamed(IterableDataset):
    def __iter__(self):
        return iter([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)])


class Shifted(TensorDataset):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x - 100, y


class OfTensors(torch.utils.data.Dataset):
    """Whose attribute `tensors` is something else."""

    tensors = [torch.zeros(3)] * 4

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"y": i, "x": self.tensors[i] + i} if i % 2 else {"x": self.tensors[i] + i, "y": i}


@pytest.fixture
def no_memory(monkeypatch):
    """Where no data set fits."""
    monkeypatch.setattr(stream, "HOST_SHARE", 0.0)


def whole(batches):
    return [torch.cat(parts) for parts in zip(*(get_tensors(batch) for batch in batches), strict=True)]


def named(number):
    torch.utils.data.get_worker_info().dataset.worker = number


class Telling(Listed):
    """Each example says which worker has read it, or −1 where none was told its number."""

    worker = -1

    def __getitem__(self, i):
        return torch.tensor([i, self.worker, signal.getsignal(signal.SIGINT) == signal.SIG_IGN])


class Augmented(Listed):
    def __getitem__(self, i):
        return self.data[0][i] + torch.rand(2)


def of_words(model, batch):
    return model(batch[..., None].float())[..., 0]


def test_a_dataset_is_read_in_its_order():
    assert all(torch.equal(a, b) for a, b in zip(read_dataset(TensorDataset(X, Y)), (X, Y), strict=True))
    found = read_dataset(Streamed())
    assert torch.equal(found["x"], X)
    assert torch.equal(found["y"], Y)
    listed = read_dataset([(x, int(y)) for x, y in zip(X, Y, strict=True)])
    assert torch.equal(listed[1], Y)


def test_examples_are_what_the_dataset_returns():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.equal(read_dataset(Shifted(X, Y))[0], X - 100)
    found = read_dataset(OfTensors())
    assert found["x"][:, 0].tolist() == found["y"].tolist() == [0, 1, 2, 3]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [Listed, Iterated])
def test_a_dataset_too_large_for_memory_is_streamed_with_the_same_examples(kind, no_memory):
    streamed = read_dataset(kind((X, Y)))
    assert isinstance(streamed, StreamedDataset)
    assert len(streamed) == 11
    for size in (1, 4, 11, 50):
        for _ in range(2):  # as often as it is asked for
            parts = list(streamed.batches(size))
            assert [length(part) for part in parts] == [min(size, 11 - i) for i in range(0, 11, size)]
            assert torch.equal(whole(parts)[0], X)
            assert torch.equal(whole(parts)[1], Y)
    assert torch.equal(streamed.take_first(3)["x"], X[:3])
    assert length(streamed.take_first(100)) == 11
    some = streamed.select([1, 2, 7])
    assert len(some) == 3
    assert torch.equal(whole(some.batches(2))[0], X[[1, 2, 7]])
    assert torch.equal(whole(streamed.map(lambda batch: batch["x"] + 1).batches(3))[0], X + 1)


def test_the_bytes_decide_whether_a_dataset_is_streamed(monkeypatch):
    n_bytes = X.nbytes + Y.nbytes
    monkeypatch.setattr(stream, "HOST_SHARE", 1.0)
    monkeypatch.setattr(stream, "get_memory_bytes", lambda device: n_bytes)
    assert not isinstance(read_dataset(Listed((X, Y))), StreamedDataset)
    monkeypatch.setattr(stream, "get_memory_bytes", lambda device: n_bytes - 1)
    assert isinstance(read_dataset(Listed((X, Y))), StreamedDataset)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of fork beside threads, from Python 3.12 on
def test_a_loader_gives_its_dataset_collate_fn_and_workers(no_memory):
    def doubled(examples):
        return torch.stack([2 * example["x"] for example in examples])

    loader = DataLoader(Listed((X, Y)), batch_size=3, shuffle=True, collate_fn=doubled, num_workers=2)
    streamed = read_dataset(loader)
    again = streamed.batches(4)
    for _ in range(2):
        assert torch.equal(whole(again)[0], 2 * X)
    told = read_dataset(
        DataLoader(Iterated((X, Y)), batch_size=3, num_workers=2)
    )  # of whose workers each would read it all
    assert torch.equal(whole(told.batches(4))[0], X)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_workers_are_started_as_the_loader_says_and_leave_ctrl_c_to_the_main_process(no_memory):
    loader = DataLoader(Telling((X, Y)), num_workers=2, worker_init_fn=named)
    first = lca.Problem(nn.Linear(1, 1), train=loader).train
    (found,) = whole(first.batches(3))
    assert found[:, 0].tolist() == list(range(11))
    assert set(found[:, 1].tolist()) == {0, 1}
    assert found[:, 2].all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": SubsetRandomSampler([0, 1, 2])}, r"a SubsetRandomSampler, .*torch\.utils\.data\.Subset"),
        ({"sampler": WeightedRandomSampler([1.0] * 11, 11)}, r"a WeightedRandomSampler, .*weigh="),
        ({"batch_sampler": [[0, 1], [2]]}, "a list, and L is"),
    ],
)
def test_a_loader_of_a_part_of_its_data_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        read_dataset(DataLoader(Listed((X, Y)), **options))


def test_a_loader_of_ready_batches_is_refused():
    with pytest.raises(UsageError, match="batch_size=None"):
        read_dataset(DataLoader(Iterated((X, Y)), batch_size=None))
    whole_batches = DataLoader(Listed((X, Y)), batch_size=None)  # of single examples as well, without their batches
    assert torch.equal(read_dataset(whole_batches)["x"], X)


def test_random_examples_are_refused():
    with pytest.raises(UsageError, match="gives another example 0 each time.*Switch random augmentation off"):
        read_dataset(Augmented((X, Y)))
    with_nan = X.clone()
    with_nan[0, 1] = torch.nan
    assert torch.equal(read_dataset(Listed((with_nan, Y)))["x"].isnan(), with_nan.isnan())


def test_an_exhausted_iterator_is_explained(no_memory):
    class Once(IterableDataset):
        left = iter([torch.zeros(2)] * 3)

        def __iter__(self):
            return self.left

    streamed = read_dataset(Once())
    assert len(streamed) == 3
    with pytest.raises(LCAError, match="gives no example when it is read again"):
        streamed.take_first(2)


def test_all_splits_and_processes_share_the_memory(monkeypatch):
    n_bytes = X.nbytes + Y.nbytes
    monkeypatch.setattr(stream, "HOST_SHARE", 1.0)
    monkeypatch.setattr(stream, "get_memory_bytes", lambda device: 2 * n_bytes)
    two = {"train": Listed((X, Y)), "val": Listed((X, Y))}
    splits = lca.Problem(nn.Linear(1, 1), **two).splits
    assert [isinstance(data, StreamedDataset) for data in splits.values()] == [False, False]
    splits = lca.Problem(nn.Linear(1, 1), **two, test=Listed((X, Y))).splits
    assert [isinstance(data, StreamedDataset) for data in splits.values()] == [False, False, True]
    monkeypatch.setattr(stream, "count_sharing", lambda device: 2)
    splits = lca.Problem(nn.Linear(1, 1), **two).splits
    assert [isinstance(data, StreamedDataset) for data in splits.values()] == [False, True]


def test_tensors_of_unequal_lengths_are_refused():
    odd = DataLoader(Listed((X, Y)), collate_fn=lambda examples: (torch.zeros(len(examples)), torch.zeros(1)))
    with pytest.raises(UsageError, match="a batch has tensors of 11 and 1 examples"):
        lca.Problem(nn.Linear(1, 1), train=odd)


def test_sequences_of_any_length_are_streamed_as_they_cannot_be_joined():
    """Padded to the longest of their batch: what the padding is worth, weigh tells."""

    class Words(Dataset):
        def __len__(self):
            return 1_030  # two batches of reading

        def __getitem__(self, i):
            return torch.arange(i % 5 + 1 + (i > 1_024))

    def padded(examples):
        return nn.utils.rnn.pad_sequence(examples, batch_first=True, padding_value=-1)

    problem = lca.Problem(nn.Linear(1, 1), train=DataLoader(Words(), collate_fn=padded), weigh=lambda batch: batch >= 0)
    assert isinstance(problem.train, StreamedDataset)
    objective = Objective(problem.model, of_words, problem.train, weigh=problem.weigh)
    with FullGradient(objective, 7) as full:
        assert full.total_weight == sum(i % 5 + 1 + (i > 1_024) for i in range(1_030))
        found = full(torch.tensor([1.0, 0.5]))
    words = torch.cat([Words()[i] for i in range(1_030)]).double()
    assert float(found.loss) == pytest.approx(float((words + 0.5).mean()), rel=1e-6)
    torch.testing.assert_close(found.gradient, torch.stack([words.mean(), words[0] + 1]).float())
    assert choose_batch_format(objective).batch_size >= 125


def test_examples_of_unequal_shapes_need_a_collate_function():
    with pytest.raises(UsageError, match=r"train cannot be collated into tensors .*a DataLoader whose collate_fn"):
        lca.Problem(nn.Linear(1, 1), train=Listed(([torch.zeros(1), torch.zeros(2)], Y)))


def test_a_streamed_split_is_trained_on_in_the_same_random_order(tmp_path, no_memory):
    given = small_problem()
    x, y = given.train
    config = lca.TrainConfig(batch_size=20, iterations=8, learning_rate=0.1, device="cpu")
    weights = []
    for i, data in enumerate(({"x": x, "y": y}, Listed((x, y)))):
        problem = replace(small_problem(), losses=losses, train=data, val=None, correct=None)
        weights.append(lca.train(problem, tmp_path / f"{i}.zarr", config).weights[:])
    np.testing.assert_array_equal(*weights)
    with pytest.raises(UsageError, match=r"no random order to be trained in.*lca\.Recorder"):
        lca.train(
            replace(small_problem(), losses=losses, train=Iterated((x, y)), val=None), tmp_path / "2.zarr", config
        )


def test_nothing_is_copied_if_all_is_on_the_host():
    items = [((X, Y), [1]), ((X + 1, Y), [2])]
    assert [beside for _, beside in prefetch(items, CPU)] == [[1], [2]]
    assert all(batch[0] is items[i][0][0] for i, (batch, _) in enumerate(prefetch(items, CPU)))
    elsewhere = torch.device("meta")
    assert all(batch[0].device == elsewhere for batch, _ in prefetch(items, elsewhere))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_are_copied_to_cuda_ahead_of_their_use():
    device = torch.device("cuda")
    items = [((torch.full((1_000, 1_000), float(i)), Y), [i]) for i in range(8)]
    sums = [(batch[0].sum() * 1.0, beside) for batch, beside in prefetch(items, device)]
    assert [(float(total), beside) for total, beside in sums] == [(1e6 * i, [i]) for i in range(8)]


def test_a_dataset_of_strings_is_refused(no_memory):
    with pytest.raises(UsageError, match=r"cannot be collated into tensors \(a str\)"):
        lca.Problem(nn.Linear(1, 1), train=Listed((["a", "b"], [0, 1])))
