import asyncio
import json

import numpy as np
import pytest
import zarr
from torch import nn

from lca.errors import UsageError
from lca.model.parameters import build_table
from lca.store.chunks import block_length, round_mantissa
from lca.store.run_writer import create_run


def empty(path, K=5, **options):
    return create_run(path, build_table(nn.Linear(K, 1, bias=False)), {}, **options)


def test_mantissas_are_rounded_to_the_nearest_value():
    values = np.array([1.0, 1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, -np.pi, 0.0, np.nan], np.float32)
    kept = round_mantissa(values, 7)
    np.testing.assert_array_equal(kept[:3], [1.0, 1.0, 1.0 + 2.0**-6])  # ties are rounded to even
    assert kept[3] == -np.float32(402 / 128)
    assert kept[4] == 0
    assert np.isnan(kept[5])
    assert round_mantissa(values, 23) is values


def test_a_block_has_at_most_256_mib():
    assert block_length(84_060) == 64
    assert block_length(808_970) == 64
    assert block_length(1_371_658) == 32
    assert block_length(10**10) == 1
    for K in (2_000_000, 7_654_321, 50_000_000):
        assert 4 * K * block_length(K) <= 256 * 2**20 < 8 * K * block_length(K)


@pytest.mark.parametrize("codec", ["zstd", "lz4", "pcodec"])
@pytest.mark.parametrize("K", [16_384, 50_000, 300_000])
def test_chunks_and_shards_of_realistic_size_are_read_back_bit_for_bit(tmp_path, codec, K, monkeypatch):
    monkeypatch.setattr("lca.store.chunks.MAX_CHUNK_FILES", 10)
    if codec == "pcodec":
        pytest.importorskip("pcodec", reason="needs the extra pcodec")
    random = np.random.default_rng(K)
    iterates = random.normal(size=(70, K)).cumsum(0).astype(np.float32)  # smooth over time
    writer = empty(tmp_path / "run.zarr", K, codec=codec)
    for begin in (0, 64):
        asyncio.run(writer.write_iterates(begin, iterates[begin : begin + 64]))
    writer.commit(70, {})
    files = [path for path in (tmp_path / "run.zarr/weights/c").rglob("*") if path.is_file()]
    assert len(files) == 2 * {16_384: 1, 50_000: 4, 300_000: 2}[K]  # 300,000 parameters make 19 chunks, 16 per file
    plain = zarr.open_array(tmp_path / "run.zarr/weights", mode="r")
    assert np.array_equal(plain[:].T, iterates)
    assert np.array_equal(writer.run.iterates(1).T, iterates[64:])


def test_the_default_codec_is_in_the_zarr_specification(tmp_path):
    empty(tmp_path / "run.zarr")
    codecs = json.loads((tmp_path / "run.zarr/weights/zarr.json").read_text(encoding="utf-8"))["codecs"]
    assert [codec["name"] for codec in codecs] == ["bytes", "blosc", "crc32c"]
    assert codecs[1]["configuration"]["cname"] == "zstd"
    assert codecs[1]["configuration"]["shuffle"] == "shuffle"


def test_an_unusable_codec_is_a_usage_error(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="codec: expected one of zstd, lz4, pcodec, found 'gzip'"):
        empty(tmp_path / "run.zarr", codec="gzip")
    monkeypatch.setattr("lca.store.chunks.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'loss-change-allocation\[pcodec\]'"):
        empty(tmp_path / "run.zarr", codec="pcodec")
    assert not (tmp_path / "run.zarr").exists()
