"""Tiles cover large arrays once and in order, and streamed results equal results computed in memory."""

import itertools

import numpy as np
import pytest
from handmade import CONV_SIZE, random_run

from lca.analysis import helping, neurons, oscillation, tails
from lca.analysis.tiles import Segments, feed, iterate_tiles, pack_words
from lca.errors import DamagedError


@pytest.mark.parametrize(
    ("T", "chunk", "block", "strip"), [(300, 16_384, None, 50), (130, 50, 8, 99), (64, 128, 64, 128), (5, 7, None, 3)]
)
def test_tiles_cover_the_array(tmp_path, monkeypatch, T, chunk, block, strip):
    monkeypatch.setattr("lca.analysis.tiles.STRIP_ROWS", strip)
    run, made = random_run(tmp_path / "run.zarr", T, block, chunk, monkeypatch)
    found = np.full((CONV_SIZE, T), np.inf, np.float32)
    reached = {}
    for tile in iterate_tiles(run, run.allocation("train").lca):
        assert np.isinf(found[tile.rows, tile.columns]).all()
        found[tile.rows, tile.columns] = tile.values
        assert tile.values.shape[1] <= 64
        assert tile.first == (tile.columns.start == 0)
        assert tile.last == (tile.columns.stop == T)
        assert tile.columns.start == reached.get((tile.rows.start, tile.rows.stop), 0)
        reached[tile.rows.start, tile.rows.stop] = tile.columns.stop
    np.testing.assert_array_equal(found, made["lca"].astype(np.float32))
    assert len(reached) == sum(-(-min(chunk, CONV_SIZE - top) // strip) for top in range(0, CONV_SIZE, chunk))
    assert set(reached.values()) == {T}


def test_first_column_is_the_lowest_bit():
    flags = np.zeros((3, 64), bool)
    flags[0, 0] = flags[1, 63] = flags[2, 5] = True
    assert pack_words(flags).tolist() == [1, 2**63, 32]


def test_segments_are_summed_within_the_rows():
    segments = Segments([0, 2, 3, 7])
    values = np.arange(7)[:, None] * [1, 10]
    which, sums = segments.sum(slice(1, 5), values[1:5], np.int64)
    assert (which, sums.tolist()) == (slice(0, 3), [[1, 10], [2, 20], [7, 70]])
    which, sums = segments.sum(slice(3, 6), values[3:6], np.float64)
    assert (which, sums.tolist()) == (slice(2, 3), [[12, 120]])


def test_sums_and_counts_of_empty_segments_are_0():
    segments = Segments([0, 0, 2, 2, 2, 7, 7])
    values = np.arange(1, 8)[:, None]
    for rows, first, expected in (
        (slice(0, 7), 1, [3, 0, 0, 25]),
        (slice(1, 4), 1, [2, 0, 0, 7]),
        (slice(2, 7), 4, [25]),
    ):
        which, sums = segments.sum(rows, values[rows], np.int64)
        assert (which, sums[:, 0].tolist()) == (slice(first, first + len(expected)), expected)
    flags = np.ones((7, 64), bool)
    which, counts = segments.count(slice(0, 7), flags)
    assert (which, counts[:, 0].tolist()) == (slice(1, 5), [2, 0, 0, 5])


def test_count_equals_sum_of_flags(monkeypatch):
    rng = np.random.default_rng(0)
    flags = rng.random((2_000, 64)) < 0.9
    segments = Segments([0, 100, 101, 900, 5_000, 5_003])
    for rows in (slice(0, 2_000), slice(3_100, 5_003), slice(100, 101)):
        part = flags[: rows.stop - rows.start]
        which, counts = segments.count(rows, part)
        expected, sums = segments.sum(rows, part, np.int64)
        assert which == expected
        np.testing.assert_array_equal(counts, sums)
    assert segments.count(slice(0, 900), np.ones((900, 64), bool))[1][:, 0].tolist() == [100, 1, 799]


def in_memory(made):
    """Compute the results with plain NumPy on whole arrays."""
    lca, status = made["lca"].astype(np.float32), made["status"]
    counted = (status == 1) | (status == 2)
    sign = np.where(counted, np.sign(lca), 0)
    bounds = [0, 54, 57, 60, 63, 123, 128]
    spans = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    motion = np.where(status == 3, 0, np.sign(np.diff(made["weights"].astype(np.float32), axis=1)))
    known = np.isfinite(made["loss"])
    crossed = made["positive"][:, 1:] != made["positive"][:, :-1]
    return {
        "helped": np.stack([(sign[s] < 0).sum(0) for s in spans], axis=1),
        "hurt": np.stack([(sign[s] > 0).sum(0) for s in spans], axis=1),
        "of_lca": [(sign[s, 1:] * sign[s, :-1] < 0).sum() for s in spans],
        "turns": [(motion[s, 1:] * motion[s, :-1] < 0).sum() for s in spans],
        "crossings": [(crossed & known[1:] & known[:-1])[s].sum() for s in spans],
        "values": lca[:, counted],
        "times": (sign < 0).sum(1)[(sign != 0).any(1)] / counted.sum(),
    }


@pytest.mark.parametrize(
    ("T", "chunk", "block", "strip"), [(300, 16_384, None, 8), (300, 48, 8, 99), (129, 8, 64, 99), (192, 40, 16, 24)]
)
def test_streamed_results_equal_results_in_memory(tmp_path, monkeypatch, T, chunk, block, strip):
    monkeypatch.setattr("lca.analysis.tiles.STRIP_ROWS", strip)
    monkeypatch.setattr("lca.store.chunks.MAX_CHUNK_FILES", 2)  # so that some files contain several chunks
    monkeypatch.setattr("lca.store.chunks.CHUNKS_PER_FILE", 2)
    run, made = random_run(tmp_path / "run.zarr", T, block, chunk, monkeypatch)
    expected = in_memory(made)
    signs = helping(run)
    np.testing.assert_array_equal(signs.helped, expected["helped"])
    np.testing.assert_array_equal(signs.hurt, expected["hurt"])
    np.testing.assert_array_equal(signs.histogram, np.histogram(expected["times"], np.arange(51) / 50)[0])
    changes = oscillation(run)
    for name in ("of_lca", "turns", "crossings"):
        np.testing.assert_array_equal(getattr(changes, name).counts, expected[name], err_msg=name)
    values = expected["values"]
    distribution = tails(run)
    assert distribution.n_zero == (values == 0).sum()
    assert distribution.helped.n == (values < 0).sum()
    assert distribution.hurt.n == (values > 0).sum()
    assert distribution.hurt.total == pytest.approx(values[values > 0].sum(dtype=np.float64), rel=1e-3)
    of_units = neurons(run).total
    assert of_units[:3] == pytest.approx(
        [values[18 * i : 18 * i + 18].sum() + values[[54 + i, 57 + i, 60 + i]].sum() for i in range(3)], rel=1e-4
    )
    assert of_units[3:] == pytest.approx(
        [values[63 + 12 * i : 75 + 12 * i].sum() + values[123 + i].sum() for i in range(5)], rel=1e-4
    )


def test_damaged_chunk_is_an_error(tmp_path):
    run, _ = random_run(tmp_path / "run.zarr", 70)
    chunk = tmp_path / "run.zarr/lca/train/lca/c/0/1"
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"x" * 9)
    with pytest.raises(DamagedError, match="lca/train/lca is damaged"):
        helping(run)


@pytest.mark.parametrize("array", ["lca/train/lca", "lca/train/gradient_sign", "weights"])
def test_missing_file_is_an_error(tmp_path, array):
    run, _ = random_run(tmp_path / "run.zarr", 70)
    (tmp_path / "run.zarr" / array / "c/0/1").unlink()
    with pytest.raises(
        DamagedError, match=rf"run.zarr/{array} is damaged: 1 file missing. To find all damaged parts, use lca.verify"
    ):
        oscillation(run)


def test_all_consumers_receive_the_same_tiles(tmp_path):
    run, _ = random_run(tmp_path / "run.zarr", 200)
    seen = [[], []]

    class Watcher:
        def __init__(self, log):
            self.log = log

        def add(self, tile):
            self.log.append(id(tile))

    feed(run, run.allocation("train").lca, None, [Watcher(log) for log in seen])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4
