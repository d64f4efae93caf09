"""Numbers, tables and lists of facts as text and as HTML."""

from xml.etree import ElementTree

import pytest

from lca.text import duration, html_facts, html_table, pluralize, plus_minus, quote, size, table


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59, "59 s"), (200, "3 min 20 s"), (3600 * 5 + 600, "5 h 10 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("n_bytes", "text"), [(999, "999 B"), (1_234_567, "1.23 MB"), (5e15, "5e+03 TB")])
def test_sizes(n_bytes, text):
    assert size(n_bytes) == text


def test_counts_have_a_singular_and_a_plural():
    assert [pluralize(n, "pass") for n in (1, 2)] == ["1 pass", "2 passes"]
    assert pluralize(1234, "iteration") == "1,234 iterations"


def test_a_deviation_that_is_nan_is_omitted():
    assert plus_minus(1.25, 0.5, 2) == "1.25 ± 0.50"
    assert plus_minus(1.25, float("nan"), 2) == "1.25"


def test_text_columns_are_left_aligned_and_numbers_right_aligned():
    assert table(["layer", "LCA"], [["fc1", "-1.5"], ["output", "0"]]).splitlines() == [
        "layer    LCA",
        "──────  ────",
        "fc1     -1.5",
        "output     0",
    ]


def test_html_tables_align_the_first_column_left_and_the_others_right():
    root = ElementTree.fromstring(html_table(["layer", "LCA"], [["fc1", "-1.5"]], "per layer"))
    assert root.findtext("caption") == "per layer"
    assert [cell.text for cell in root.iter("th")] == ["layer", "LCA"]
    assert [cell.text for cell in root.iter("td")] == ["fc1", "-1.5"]
    assert [cell.get("style") for cell in root.iter("td")] == ["text-align: left", "text-align: right"]
    assert "caption" not in html_table(["layer"], [["fc1"]])


def test_html_is_escaped():
    evil = '<script>"&'
    for html in (html_table([evil], [[evil]], evil), html_facts([(evil, evil)])):
        assert "<script" not in html
        assert evil in "".join(ElementTree.fromstring(html).itertext())


def test_html_facts_have_one_row_per_pair():
    root = ElementTree.fromstring(html_facts([("run", "a.zarr"), ("store", "1 MB")]))
    assert [[cell.text for cell in row] for row in root.iter("tr")] == [["run", "a.zarr"], ["store", "1 MB"]]


@pytest.mark.parametrize(
    ("word", "posix", "windows"),
    [
        ("run.zarr", "run.zarr", "run.zarr"),
        ("my run.zarr", "'my run.zarr'", '"my run.zarr"'),
        (r"C:\runs\a.zarr", r"'C:\runs\a.zarr'", r"C:\runs\a.zarr"),
        ("~a", "'~a'", "~a"),
        ("", "''", '""'),
    ],
)
def test_words_are_quoted_for_the_shell_of_the_system(monkeypatch, word, posix, windows):
    assert quote(word) == posix
    monkeypatch.setattr("sys.platform", "win32")
    assert quote(word) == windows
