import pytest

from lca.text import duration


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59, "59 s"), (200, "3 min 20 s"), (3600 * 5 + 600, "5 h 10 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
