"""The data that a report embeds, its size, and its safety against markup in texts. No browser is needed."""

import json
import re
from importlib import import_module

import numpy as np
import pytest
from handmade import CONVERGED, LCA, add_allocation, make_run
from torch import nn

from lca.analysis import helping, layers, neurons
from lca.errors import UsageError
from lca.figures._report import render, report
from lca.figures.style import Look

pytest.importorskip("plotly", reason="needs the extra `report`")


def make(path, **options):
    norms = np.random.default_rng(0).random((5, 4))
    arrays = {"status": CONVERGED, "loss": [3.0, 2, 1.5, 1, np.nan], "gradient_norm": norms, "motion_norm": norms[:4]}
    run = make_run(path, LCA, **{**arrays, **options})
    add_allocation(run, "val", np.array(LCA) / 2, status=CONVERGED, attributes={"split": "val"})
    return run


def read_data(path):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)
    return json.loads(text)


def test_embedded_data_equal_the_analyses(tmp_path):
    run = make(tmp_path / "run.zarr")
    report([run, run], tmp_path / "new" / "report.html", Look("two runs"))
    data = read_data(tmp_path / "new" / "report.html")
    assert len(data["runs"]) == 2
    of_run = data["runs"][0]
    assert of_run["loss"] == {"x": [0, 1, 2, 3, 4], "y": [3, 2, 1.5, 1, None]}
    assert of_run["summed"]["x"] == [0, 1, 2, 3, None]
    assert of_run["summed"]["y"][:4] == pytest.approx(3 + np.cumsum([0, *np.sum(LCA, axis=0)[:3]]))
    by_layer = layers(run)
    assert [layer["lca"] for layer in of_run["layers"]] == pytest.approx(by_layer.total, rel=1e-3)
    np.testing.assert_allclose(np.array(of_run["heat"]["z"], float), by_layer.lca.T, rtol=1e-3)
    assert of_run["helping"] == pytest.approx(helping(run).percentage, rel=1e-3)
    assert [layer["gap"] for layer in of_run["layers"]] == pytest.approx(-by_layer.total / 2, rel=1e-3)
    assert of_run["layers"][1]["neurons"]["names"] == ["1[0]", "1[1]"]
    z = np.array(of_run["layers"][1]["neurons"]["z"], float)
    np.testing.assert_allclose(z, neurons(run).lca[1:], rtol=1e-3)
    assert np.isnan(z[:, 3]).all()
    assert of_run["layers"][1]["neurons"]["total"] == pytest.approx(neurons(run).total[1:], rel=1e-3)
    assert dict(of_run["certificate"])["Σ A"]
    assert ["run", f"{run.path}, complete"] in of_run["provenance"]
    assert sum(of_run["distribution"]["helped"]) > 0
    shares = helping(run).shares
    for key in ("helped", "zero", "hurt"):
        np.testing.assert_allclose(np.array(of_run["shares"][key], float), getattr(shares, key), rtol=1e-3)


def test_residuals_and_their_cumulative_sum_are_embedded(tmp_path):
    run = make(tmp_path / "run.zarr", residual=[1e-4, -3e-4, 1e-4, 0])
    report(run, tmp_path / "report.html")
    residual = read_data(tmp_path / "report.html")["runs"][0]["residual"]
    assert residual["y"] == [1e-4, -3e-4, 1e-4, None]  # the last iteration is not finite
    assert residual["sum"]["x"] == [0, 1, 2, 3, None]
    assert residual["sum"]["y"][:4] == pytest.approx([0, 1e-4, -2e-4, -1e-4])
    assert residual["tolerance"] == 1e-3


def test_bins_show_their_largest_residual(tmp_path):
    residual = np.zeros(1_800)
    residual[[10, 11]] = 2e-4, -5e-4
    run = make_run(tmp_path / "run.zarr", np.zeros((7, 1_800)), residual=residual)
    report(run, tmp_path / "report.html")
    data = read_data(tmp_path / "report.html")["runs"][0]["residual"]
    assert data["bin"] == 2
    assert data["y"][5] == -5e-4
    assert len(data["y"]) == 900


def test_findings_describe_all_runs(tmp_path):
    run = make(tmp_path / "run.zarr")
    report([run, run], tmp_path / "report.html")
    findings = read_data(tmp_path / "report.html")["findings"]
    assert [each["kind"] for each in findings] == ["learning", "layers", "hurting", "rises", "helping", "certificate"]
    assert findings[0]["text"].startswith("On average over 2 runs, the train loss fell by 2.00 nats, from 3.00 to 1.00")


def test_text_is_never_markup(tmp_path):
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    run = make(tmp_path / "run.zarr")
    run.attributes |= {"problem": evil, "command": evil}
    report([run], tmp_path / "report.html", Look(evil))
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<img" not in page.replace(render([], Look()), "").split("<script>", 1)[0]
    assert read_data(tmp_path / "report.html")["runs"][0]["problem"] == evil
    assert "<title>&lt;/script&gt;" in page


def test_page_needs_no_network_and_stays_small(tmp_path):
    """The run is as long as that of the paper's ResNet: 4,500 iterations, with 22 layers."""
    model = nn.Sequential(*(nn.Linear(1, 70) if i % 2 == 0 else nn.Linear(70, 1) for i in range(22)))
    K = sum(parameter.numel() for parameter in model.parameters())
    lca = np.random.default_rng(0).normal(size=(K, 4_500)).astype(np.float32)
    norms = np.ones((4_501, 44))
    run = make_run(tmp_path / "run.zarr", lca, model=model, gradient_norm=norms, motion_norm=norms[:-1])
    report([run], tmp_path / "report.html", Look())
    assert (tmp_path / "report.html").stat().st_size < 8e6
    page = (tmp_path / "report.html").read_text()
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)=[\"'](?!data:)", outside)
    assert len(read_data(tmp_path / "report.html")["runs"][0]["heat"]["x"]) == 900


def test_missing_arrays_leave_out_sections(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, keep=False)
    report([run], tmp_path / "report.html", Look())
    (of_run,) = read_data(tmp_path / "report.html")["runs"]
    assert "distribution" not in of_run
    assert "helping" not in of_run
    assert "neurons" in dict(of_run["unanswered"])


def test_wrong_suffix_and_missing_plotly_raise(tmp_path, monkeypatch):
    run = make(tmp_path / "run.zarr")
    with pytest.raises(UsageError, match=r"suffix of 'report.pdf': expected \.html or \.htm, found \.pdf"):
        report([run], tmp_path / "report.pdf", Look())
    module = import_module("lca.figures._report")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"plotly is not installed. .*pip install 'loss-change-allocation\[report\]'"):
        report([run], tmp_path / "report.html", Look())


def test_long_runs_are_averaged_in_bins_without_unused_iterations(tmp_path):
    T = 2_700  # 3 iterations per column of the layers' map, 23 per column of the neurons' map
    status = np.ones(T, int)
    status[600:1_201] = 0
    norms = np.ones((T + 1, 4))
    options = {"status": status, "gradient_norm": norms, "motion_norm": norms[:-1]}
    lca = np.tile(-2.0 - np.arange(T) % 2, (7, 1))
    run = make_run(tmp_path / "run.zarr", lca, **options)
    report([run], tmp_path / "report.html", Look())
    (of_run,) = read_data(tmp_path / "report.html")["runs"]
    assert of_run["heat"]["x"][:2] == [1, 4]  # the centers of the bins
    z = np.array(of_run["heat"]["z"], float)
    np.testing.assert_allclose(z[0, :2], [3 * np.mean([-2, -3, -2]), 3 * np.mean([-3, -2, -3])], rtol=1e-3)
    assert np.isnan(z[0, 200:400]).all()
    assert z[0, 400] == pytest.approx(3 * -2.5)  # the mean of the two used iterations
    of_neuron = np.array(of_run["layers"][0]["neurons"]["z"], float)[0]
    assert np.isnan(of_neuron[27:52]).all()
    np.testing.assert_allclose(of_neuron[[0, 60]], 3 * -2.5, rtol=0.02)
    x, y = (np.array(of_run["layers"][0]["cumulative"][axis], float) for axis in "xy")
    assert np.isnan(y[(x >= 600) & (x <= 1_200)]).all()
    assert np.isfinite(y[(x < 600) | (x > 1_200)]).all()
