"""Answers as text, JSON, HTML and data frames."""

import numpy as np
import pytest
from handmade import NAN, make_run

from lca.analysis import compare, curves, layers, loss_curve, neurons
from lca.analysis.answer import SIGN_NOTE, Answer, Column, Table
from lca.analysis.iterations import choose_iterations
from lca.errors import UsageError


def test_text_and_json_contain_tables_and_notes(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 2)))
    counted = [choose_iterations(run.allocation("train"))] * 2
    columns = {
        "x (nats)": Column(np.array([[1.0, NAN], [3.0, NAN]]), 1),
        "n": Column.of([7, 8], text=lambda n: f"{n:g}!"),
    }
    answer = Answer(
        "question", [Table("row", ["a", "b"], columns, "a title")], counted, ["a note"], {"c": np.arange(2)}
    )
    assert str(answer).splitlines() == [
        "a title",
        "row   x (nats)   n",
        "───  ─────────  ──",
        "a    2.0 ± 1.4  7!",
        "b            –  8!",
        "",
        "a note",
        "2 runs of 2 iterations.",
    ]
    assert answer.to_json() == {
        "question": "question",
        "runs": 2,
        "iterations": [2, 2],
        "iterations_left_out": [{}, {}],
        "tables": [
            {
                "title": "a title",
                "columns": {
                    "x (nats)": {
                        "a": {"mean": 2.0, "deviation": pytest.approx(2**0.5), "values": [1.0, 3.0]},
                        "b": {"mean": None, "deviation": None, "values": [None, None]},
                    },
                    "n": {
                        "a": {"mean": 7.0, "deviation": None, "values": [7.0]},
                        "b": {"mean": 8.0, "deviation": None, "values": [8.0]},
                    },
                },
            }
        ],
        "notes": ["a note"],
        "c": [0, 1],
    }


def two_runs(tmp_path):
    """Make two runs in which layer 0 has a total LCA of −3 and −6, and layer 1 a total of 1 and 2."""
    lca = np.zeros((7, 2))
    lca[0], lca[6] = [-1, -2], [1, 0]
    return [make_run(tmp_path / f"{i}.zarr", lca * i) for i in (1, 2)]


def test_sign_is_explained_once_if_a_column_is_signed(tmp_path):
    runs = two_runs(tmp_path)
    for result in (layers(runs), curves(runs[0]), neurons(runs), compare(runs[0], runs[1])):
        assert str(result).count(SIGN_NOTE) == 1
    assert SIGN_NOTE not in str(loss_curve(runs))
    signed = [heading for heading, column in layers(runs).to_answer().tables[0].columns.items() if column.signed]
    assert signed == ["LCA (nats)"]


def test_frame_of_one_run_has_one_row_per_label(tmp_path):
    frame = layers(two_runs(tmp_path)[0]).to_frame()
    assert frame.index.name == "layer"
    assert frame.index.tolist() == ["0", "1", "sum"]
    assert frame.columns.tolist() == ["LCA (nats)", "share of sum %"]
    assert frame["LCA (nats)"].tolist() == [-3, 1, -2]
    assert frame["share of sum %"].tolist() == [150, -50, 100]


def test_frame_of_several_runs_has_one_row_per_label_and_run(tmp_path):
    results = layers(two_runs(tmp_path))
    frame = results.to_frame()
    assert frame.index.names == ["layer", "run"]
    assert frame["LCA (nats)"].unstack("run").to_numpy().tolist() == [[-3, -6], [1, 2], [-2, -4]]
    p = results.to_answer().tables[0].columns["p (t-test against 0)"].values[0]
    assert frame["p (t-test against 0)"].unstack("run").to_numpy().tolist() == [[x, x] for x in p]


def test_frame_fills_missing_runs_of_a_group_with_nan(tmp_path):
    a, b = two_runs(tmp_path)
    frame = compare(a, [a, b]).to_frame()
    np.testing.assert_array_equal(frame.loc["0", "A, n = 1 (nats)"], [-3, NAN])
    np.testing.assert_array_equal(frame.loc["0", "B, n = 2 (nats)"], [-3, -6])
    np.testing.assert_array_equal(frame.loc["0", "B − A (nats)"], [-1.5, -1.5])


def test_frame_of_another_table_is_chosen_by_position_or_title(tmp_path):
    result = layers(two_runs(tmp_path)[0])
    by_tensor = result.to_frame(1)
    assert by_tensor.loc["all kernels", "LCA (nats)"] == -3
    assert result.to_frame("by tensor: kernels, biases and norms separately").equals(by_tensor)
    with pytest.raises(UsageError, match="table: expected a position from 0 to 2 or a title .*, found 'tensors'"):
        result.to_frame("tensors")
    with pytest.raises(UsageError, match="table: expected a position from 0 to 2 .*, found 3"):
        result.to_frame(3)


def test_frame_without_pandas_names_the_extra(tmp_path, monkeypatch):
    result = layers(two_runs(tmp_path)[0])
    monkeypatch.setattr("lca.analysis.answer.find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"pandas is not installed. Install it with: .*loss-change-allocation\[pandas\]"
    ):
        result.to_frame()


def test_html_contains_tables_and_footer(tmp_path):
    runs = two_runs(tmp_path)
    html = layers(runs)._repr_html_()
    assert html == layers(runs).to_answer()._repr_html_()
    assert html.count("<table") == 3
    assert f"<p>{SIGN_NOTE}<br>Σ A = -3.0000 nats, L_T − L_0 = -3.0000 nats.<br>2 runs of 2 iterations.</p>" in html
    assert "-4.5000 ± 2.1213" in layers(runs).to_answer().tables[0]._repr_html_()
    assert "-3.0000" in layers(runs[0])._repr_html_()


def test_html_escapes_special_characters():
    table = Table("<row>", ["a & b"], {"|x| < 1": Column.of([1.0])}, "<title>")
    answer = Answer("question", [table], [], ["p < 0.05"])
    html = answer._repr_html_()
    for text in ("&lt;row&gt;", "a &amp; b", "|x| &lt; 1", "&lt;title&gt;", "p &lt; 0.05"):
        assert text in html
