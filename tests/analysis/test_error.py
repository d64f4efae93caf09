"""Certificates of allocations with different rules, and loss curves."""

import numpy as np
import pytest
from handmade import add_allocation, columns_of, make_audit, make_run

from lca.analysis import Errors, error, loss_curve
from lca.errors import LCAError
from lca.store.allocation_writer import AllocationWriter


def with_rules(path, scale=1.0):
    loss = np.array([3.0, 2, 1.5, 1.4])
    audit = make_audit([0, 1], [0.002, 0.004], [0.0, 0.0], [0.01, 0.03], [0.0, 0.0]).to_json()
    exact = {"loss": loss, "residual": [1e-4, -3e-4 * scale, 1e-4], "intervals": [2, 4, 2], "status": [1, 1, 2]}
    exact["allocated"] = np.diff(loss) + exact["residual"]
    run = make_run(path, np.zeros((7, 3)), attributes={"audit_result": audit}, **exact)
    first_order = {"loss": loss, "residual": [-0.4, -0.1, 0.02], "intervals": [1, 1, 1], "status": [2, 2, 2]}
    first_order["allocated"] = np.diff(loss) + first_order["residual"]
    add_allocation(run, "first", np.zeros((7, 3)), attributes={"rule": "first-order"}, keep=False, **first_order)
    return run


def test_table_has_a_row_for_each_allocation(tmp_path):
    answer = Errors.tabulate([error(with_rules(tmp_path / "run.zarr"))])
    columns = columns_of(answer)
    assert list(columns["% of ΔL"]) == ["first, first-order", "train, simpson"]
    cell = {name: {row: value["mean"] for row, value in rows.items()} for name, rows in columns.items()}
    assert cell["|Σ A − ΔL| (nats)"] == pytest.approx({"first, first-order": 0.48, "train, simpson": 1e-4})
    assert cell["% of ΔL"] == pytest.approx({"first, first-order": 30, "train, simpson": 100e-4 / 1.6})
    assert cell["largest residual (nats)"] == pytest.approx({"first, first-order": 0.4, "train, simpson": 3e-4})
    assert cell["gradients"] == pytest.approx({"first, first-order": 1, "train, simpson": 8 / 3})
    assert cell["not converged"] == {"first, first-order": 3, "train, simpson": 1}
    assert cell["part error %"] == {"first, first-order": None, "train, simpson": pytest.approx(0.3)}
    assert cell["wrong signs %"] == {"first, first-order": None, "train, simpson": pytest.approx(2)}
    assert "excluded" not in str(answer)


def test_several_runs_show_only_common_allocations(tmp_path):
    a, b = with_rules(tmp_path / "a.zarr"), with_rules(tmp_path / "b.zarr", scale=2)
    other = make_run(tmp_path / "c.zarr", np.zeros((7, 3)))
    rows = columns_of(Errors.tabulate([error(a), error(b)]))["largest residual (nats)"]
    assert rows["train, simpson"]["values"] == pytest.approx([3e-4, 6e-4])
    assert list(columns_of(Errors.tabulate([error(a), error(other)]))["refined"]) == ["train, simpson"]
    assert list(columns_of(Errors.tabulate([error(a, names=["first"])]))["refined"]) == ["first, first-order"]
    with pytest.raises(LCAError, match="no complete allocation in common"):
        Errors.tabulate([error(a, names=["first"]), error(other)])


def test_error_requires_a_complete_allocation(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.zeros((7, 3)))
    AllocationWriter(run.allocation("train")).reopen()
    with pytest.raises(LCAError, match="no complete allocation. Create one with lca.allocate"):
        error(run)


def test_loss_curve_shows_losses_and_residuals(tmp_path):
    result = loss_curve(with_rules(tmp_path / "run.zarr"))
    values = {row: cell["mean"] for row, cell in columns_of(result)["nats"].items()}
    assert values == pytest.approx(
        {
            "first loss": 3,
            "last loss": 1.4,
            "lowest loss": 1.4,
            "Σ A": -1.6001,
            "Σ A − ΔL": -1e-4,
            "largest |Σ A − ΔL| in one iteration": 3e-4,
        }
    )
    np.testing.assert_allclose(result.rebuild_loss(result.stretches[0]), [3, 2.0001, 1.4998, 1.3999])
