import pytest
from hypothesis import given
from hypothesis import strategies as st

from lca.store.blocks import Blocks, ceil_div


def test_the_last_block_may_be_shorter():
    blocks = Blocks(100, 64)
    assert list(blocks) == [slice(0, 64), slice(64, 100)]
    assert [list(blocks.range(block)) for block in range(2)] == [list(range(64)), list(range(64, 100))]


def test_all_blocks_are_equally_long_if_the_length_divides_the_iterations():
    assert list(Blocks(128, 64)) == [slice(0, 64), slice(64, 128)]


def test_there_are_no_blocks_without_iterations():
    assert len(Blocks(0, 64)) == 0
    assert list(Blocks(0, 64)) == []


@pytest.mark.parametrize("block", [-1, 2])
def test_a_block_outside_the_run_is_an_index_error(block):
    with pytest.raises(IndexError):
        Blocks(100, 64)[block]


@pytest.mark.parametrize("n", [100, 128])
def test_the_iterates_of_the_last_block_include_the_end_of_the_run(n):
    blocks = Blocks(n, 64)
    assert blocks.iterates(0) == slice(0, 64)
    assert blocks.iterates(1) == slice(64, n + 1)


@given(st.integers(1, 500), st.integers(1, 80))
def test_blocks_divide_iterations_and_iterates(n, length):
    blocks = Blocks(n, length)
    assert len(blocks) == ceil_div(n, length)
    assert [t for block in range(len(blocks)) for t in blocks.range(block)] == list(range(n))
    iterates = [t for block in range(len(blocks)) for t in range(n + 1)[blocks.iterates(block)]]
    assert iterates == list(range(n + 1))
    for t in range(n):
        block, position = blocks.locate(t)
        assert blocks.range(block)[position] == t


@given(st.integers(0, 10**6), st.integers(1, 10**4))
def test_ceil_div_rounds_up(a, b):
    assert (ceil_div(a, b) - 1) * b < a <= ceil_div(a, b) * b
