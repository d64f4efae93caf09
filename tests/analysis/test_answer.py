"""Answers for people and for programs."""

import numpy as np
import pytest
from handmade import NAN, make_run

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import choose_iterations


def test_an_answer_for_people_and_for_programs(tmp_path):
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
        "2 iterations, 2 runs",
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
