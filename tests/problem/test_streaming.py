"""Datasets in memory and streamed datasets have the same examples, the same loss and the same allocation."""

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
from lca.problem.prefetching import prefetch
from lca.problem.streaming import StreamedDataset, read_dataset

CPU = torch.device("cpu")


class Streamed(IterableDataset):
    def __iter__(self):
        return iter([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)])


class Shifted(TensorDataset):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x - 100, y


class WithTensors(torch.utils.data.Dataset):
    """A dataset with an attribute `tensors` that does not contain its examples."""

    tensors = [torch.zeros(3)] * 4

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"y": i, "x": self.tensors[i] + i} if i % 2 else {"x": self.tensors[i] + i, "y": i}


@pytest.fixture
def no_memory(monkeypatch):
    """Make every dataset too large for memory."""
    monkeypatch.setattr(stream, "HOST_SHARE", 0.0)


def whole(batches):
    return [torch.cat(parts) for parts in zip(*(get_tensors(batch) for batch in batches), strict=True)]


def store_number(number):
    torch.utils.data.get_worker_info().dataset.worker = number


class ReportsWorker(Listed):
    """A dataset whose examples contain the number of the worker that read them, or −1 if the worker has no number."""

    worker = -1

    def __getitem__(self, i):
        return torch.tensor([i, self.worker, signal.getsignal(signal.SIGINT) == signal.SIG_IGN])


class Augmented(Listed):
    def __getitem__(self, i):
        return self.data[0][i] + torch.rand(2)


def word_losses(model, batch):
    return model(batch[..., None].float())[..., 0]


def test_dataset_is_read_in_order():
    assert all(torch.equal(a, b) for a, b in zip(read_dataset(TensorDataset(X, Y)), (X, Y), strict=True))
    found = read_dataset(Streamed())
    assert torch.equal(found["x"], X)
    assert torch.equal(found["y"], Y)
    listed = read_dataset([(x, int(y)) for x, y in zip(X, Y, strict=True)])
    assert torch.equal(listed[1], Y)


def test_examples_are_those_that_the_dataset_returns():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.equal(read_dataset(Shifted(X, Y))[0], X - 100)
    found = read_dataset(WithTensors())
    assert found["x"][:, 0].tolist() == found["y"].tolist() == [0, 1, 2, 3]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [Listed, Iterated])
def test_dataset_too_large_for_memory_is_streamed(kind, no_memory):
    streamed = read_dataset(kind((X, Y)))
    assert isinstance(streamed, StreamedDataset)
    assert len(streamed) == 11
    for size in (1, 4, 11, 50):
        for _ in range(2):  # the result can be iterated repeatedly
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


def test_dataset_is_streamed_if_its_bytes_do_not_fit(monkeypatch):
    n_bytes = X.nbytes + Y.nbytes
    monkeypatch.setattr(stream, "HOST_SHARE", 1.0)
    monkeypatch.setattr(stream, "get_memory_bytes", lambda device: n_bytes)
    assert not isinstance(read_dataset(Listed((X, Y))), StreamedDataset)
    monkeypatch.setattr(stream, "get_memory_bytes", lambda device: n_bytes - 1)
    assert isinstance(read_dataset(Listed((X, Y))), StreamedDataset)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # about fork with threads, since 3.12
def test_dataset_collate_fn_and_workers_of_a_loader_are_used(no_memory):
    def doubled(examples):
        return torch.stack([2 * example["x"] for example in examples])

    loader = DataLoader(Listed((X, Y)), batch_size=3, shuffle=True, collate_fn=doubled, num_workers=2)
    streamed = read_dataset(loader)
    again = streamed.batches(4)
    for _ in range(2):
        assert torch.equal(whole(again)[0], 2 * X)
    # Each of the two workers would read the whole dataset.
    iterated = read_dataset(DataLoader(Iterated((X, Y)), batch_size=3, num_workers=2))
    assert torch.equal(whole(iterated.batches(4))[0], X)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_workers_call_worker_init_fn_and_ignore_ctrl_c(no_memory):
    loader = DataLoader(ReportsWorker((X, Y)), num_workers=2, worker_init_fn=store_number)
    first = lca.Problem(nn.Linear(1, 1), train=loader).train
    (found,) = whole(first.batches(3))
    assert found[:, 0].tolist() == list(range(11))
    assert set(found[:, 1].tolist()) == {0, 1}
    assert found[:, 2].all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": SubsetRandomSampler([0, 1, 2])}, r"found a SubsetRandomSampler\. .*torch\.utils\.data\.Subset"),
        ({"sampler": WeightedRandomSampler([1.0] * 11, 11)}, r"found a WeightedRandomSampler\. .*weigh="),
        ({"batch_sampler": [[0, 1], [2]]}, "expected a sampler that yields each example once, .* found a list"),
    ],
)
def test_loader_with_a_custom_sampler_raises(options, words):
    with pytest.raises(UsageError, match=words):
        read_dataset(DataLoader(Listed((X, Y)), **options))


def test_loader_of_whole_batches_raises():
    with pytest.raises(UsageError, match="batch_size=None"):
        read_dataset(DataLoader(Iterated((X, Y)), batch_size=None))
    whole_batches = DataLoader(Listed((X, Y)), batch_size=None)  # batch_size=None is fine for single examples
    assert torch.equal(read_dataset(whole_batches)["x"], X)


def test_random_examples_raise():
    with pytest.raises(UsageError, match="example 0 of the dataset differs each time.*Turn random augmentation off"):
        read_dataset(Augmented((X, Y)))
    with_nan = X.clone()
    with_nan[0, 1] = torch.nan
    assert torch.equal(read_dataset(Listed((with_nan, Y)))["x"].isnan(), with_nan.isnan())


def test_exhausted_iterator_is_reported(no_memory):
    class Once(IterableDataset):
        left = iter([torch.zeros(2)] * 3)

        def __iter__(self):
            return self.left

    streamed = read_dataset(Once())
    assert len(streamed) == 3
    with pytest.raises(LCAError, match="yields no examples when it is read again"):
        streamed.take_first(2)


def test_splits_and_processes_share_the_memory(monkeypatch):
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


def test_tensors_of_unequal_lengths_raise():
    odd = DataLoader(Listed((X, Y)), collate_fn=lambda examples: (torch.zeros(len(examples)), torch.zeros(1)))
    with pytest.raises(UsageError, match="a batch has tensors with 11 and 1 examples"):
        lca.Problem(nn.Linear(1, 1), train=odd)


def test_batches_of_different_lengths_are_streamed():
    """Each batch is padded to its longest sequence, and `weigh` gives the padding the weight 0."""

    class Words(Dataset):
        def __len__(self):
            return 1_030  # more than one piece

        def __getitem__(self, i):
            return torch.arange(i % 5 + 1 + (i > 1_024))

    def padded(examples):
        return nn.utils.rnn.pad_sequence(examples, batch_first=True, padding_value=-1)

    problem = lca.Problem(nn.Linear(1, 1), train=DataLoader(Words(), collate_fn=padded), weigh=lambda batch: batch >= 0)
    assert isinstance(problem.train, StreamedDataset)
    objective = Objective(problem.model, word_losses, problem.train, weigh=problem.weigh)
    with FullGradient(objective, 7) as full:
        assert full.total_weight == sum(i % 5 + 1 + (i > 1_024) for i in range(1_030))
        found = full(torch.tensor([1.0, 0.5]))
    words = torch.cat([Words()[i] for i in range(1_030)]).double()
    assert float(found.loss) == pytest.approx(float((words + 0.5).mean()), rel=1e-6)
    torch.testing.assert_close(found.gradient, torch.stack([words.mean(), words[0] + 1]).float())
    assert choose_batch_format(objective).batch_size >= 125


def test_examples_of_unequal_shapes_require_a_collate_function():
    with pytest.raises(UsageError, match=r"the train split cannot be collated .*a DataLoader whose collate_fn"):
        lca.Problem(nn.Linear(1, 1), train=Listed(([torch.zeros(1), torch.zeros(2)], Y)))


def test_training_on_a_stream_visits_the_examples_in_the_same_order(tmp_path, no_memory):
    given = small_problem()
    x, y = given.train
    config = lca.TrainConfig(batch_size=20, iterations=8, learning_rate=0.1, device="cpu")
    weights = []
    for i, data in enumerate(({"x": x, "y": y}, Listed((x, y)))):
        problem = replace(small_problem(), losses=losses, train=data, val=None, correct=None)
        weights.append(lca.train(problem, tmp_path / f"{i}.zarr", config).weights[:])
    np.testing.assert_array_equal(*weights)
    with pytest.raises(UsageError, match=r"cannot be shuffled, as training requires.*lca\.Recorder"):
        lca.train(
            replace(small_problem(), losses=losses, train=Iterated((x, y)), val=None), tmp_path / "2.zarr", config
        )


def test_prefetch_does_not_copy_on_the_host():
    items = [((X, Y), [1]), ((X + 1, Y), [2])]
    assert [value for _, value in prefetch(items, CPU)] == [[1], [2]]
    assert all(batch[0] is items[i][0][0] for i, (batch, _) in enumerate(prefetch(items, CPU)))
    elsewhere = torch.device("meta")
    assert all(batch[0].device == elsewhere for batch, _ in prefetch(items, elsewhere))


@pytest.mark.cuda
def test_prefetch_copies_batches_to_cuda():
    device = torch.device("cuda")
    items = [((torch.full((1_000, 1_000), float(i)), Y), [i]) for i in range(8)]
    sums = [(batch[0].sum() * 1.0, value) for batch, value in prefetch(items, device)]
    assert [(float(total), value) for total, value in sums] == [(1e6 * i, [i]) for i in range(8)]


def test_dataset_of_strings_raises(no_memory):
    with pytest.raises(UsageError, match=r"cannot be collated into tensors \(a str\)"):
        lca.Problem(nn.Linear(1, 1), train=Listed((["a", "b"], [0, 1])))
