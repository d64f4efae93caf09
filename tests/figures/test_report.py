"""The report: what it tells, that nothing in it can be markup, and that it works in a browser."""

import json
import re
import shutil
from importlib import import_module

import numpy as np
import pytest
from handmade import CONVERGED, LCA, add_allocation, make_run
from torch import nn

from lca.analysis import helping, layers, neurons
from lca.errors import UsageError
from lca.figures._report import render, report
from lca.figures.style import Look
from lca.store.parameters import ParameterTable

pytest.importorskip("plotly", reason="needs the extra `report`")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def made(path, **options):
    norms = np.random.default_rng(0).random((5, 4))
    arrays = {"status": CONVERGED, "loss": [3.0, 2, 1.5, 1, np.nan], "gradient_norm": norms, "motion_norm": norms[:4]}
    run = make_run(path, LCA, **{**arrays, **options})
    add_allocation(run, "val", np.array(LCA) / 2, status=CONVERGED, attributes={"split": "val"})
    return run


def data_of(path):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)
    return json.loads(text)


def test_the_report_holds_the_answers(tmp_path):
    run = made(tmp_path / "run.zarr")
    report([run, run], tmp_path / "new" / "report.html", Look("two runs"))
    told = data_of(tmp_path / "new" / "report.html")
    assert len(told["runs"]) == 2
    of_run = told["runs"][0]
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


def test_no_text_can_be_markup(tmp_path):
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    run = made(tmp_path / "run.zarr")
    run.attributes |= {"problem": evil, "command": evil}
    report([run], tmp_path / "report.html", Look(evil))
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<img" not in page.replace(render([], Look()), "").split("<script>", 1)[0]
    assert data_of(tmp_path / "report.html")["runs"][0]["problem"] == evil
    assert "<title>&lt;/script&gt;" in page


def test_it_needs_no_network_and_stays_small(tmp_path):
    """At the length of the paper's ResNet: 4,500 iterations of 22 layers."""
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
    assert len(data_of(tmp_path / "report.html")["runs"][0]["heat"]["x"]) == 900


def test_what_is_not_there_is_left_out(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, keep=False)
    report([run], tmp_path / "report.html", Look())
    (of_run,) = data_of(tmp_path / "report.html")["runs"]
    assert "distribution" not in of_run
    assert "helping" not in of_run
    assert "neurons" in dict(of_run["unanswered"])


def test_another_suffix_and_a_missing_package_are_told(tmp_path, monkeypatch):
    run = made(tmp_path / "run.zarr")
    with pytest.raises(UsageError, match=r"suffix of 'report.pdf': expected \.html or \.htm, found \.pdf"):
        report([run], tmp_path / "report.pdf", Look())
    module = import_module("lca.figures._report")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"plotly is not installed. .*pip install 'loss-change-allocation\[report\]'"):
        report([run], tmp_path / "report.html", Look())


@pytest.fixture
def browser(tmp_path):
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1400,1800",
        f"--user-data-dir={tmp_path}/profile",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_long_runs_are_told_in_means_that_leave_out_what_does_not_count(tmp_path):
    T = 2_700  # three iterations to a column of the map, and 23 to one of the neurons
    status = np.ones(T, int)
    status[600:1_201] = 0
    norms = np.ones((T + 1, 4))
    options = {"status": status, "gradient_norm": norms, "motion_norm": norms[:-1]}
    lca = np.tile(-2.0 - np.arange(T) % 2, (7, 1))
    run = make_run(tmp_path / "run.zarr", lca, **options)
    report([run], tmp_path / "report.html", Look())
    (of_run,) = data_of(tmp_path / "report.html")["runs"]
    assert of_run["heat"]["x"][:2] == [1, 4]  # the middles
    z = np.array(of_run["heat"]["z"], float)
    np.testing.assert_allclose(z[0, :2], [3 * np.mean([-2, -3, -2]), 3 * np.mean([-3, -2, -3])], rtol=1e-3)
    assert np.isnan(z[0, 200:400]).all()
    assert z[0, 400] == pytest.approx(3 * -2.5)  # of the two that count
    of_neuron = np.array(of_run["layers"][0]["neurons"]["z"], float)[0]
    assert np.isnan(of_neuron[27:52]).all()
    np.testing.assert_allclose(of_neuron[[0, 60]], 3 * -2.5, rtol=0.02)
    x, y = (np.array(of_run["layers"][0]["cumulative"][axis], float) for axis in "xy")
    assert np.isnan(y[(x >= 600) & (x <= 1_200)]).all()
    assert np.isfinite(y[(x < 600) | (x > 1_200)]).all()


def wait_for(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(script))


def test_in_a_browser(tmp_path, browser):
    """It opens from disk without a word in the console; a layer opens by a click, in the table and in the map; columns
    sort; zooming in one chart zooms the other, and stays when the theme changes; it is printed light and whole."""
    from selenium.webdriver import ActionChains

    lca = np.random.default_rng(0).normal(-1, 1, (7, 60))
    lca[3] += 3
    norms = np.random.default_rng(1).random((61, 4))
    loss = np.linspace(3, 1, 61)
    run = make_run(tmp_path / "run.zarr", lca, loss=loss, gradient_norm=norms, motion_norm=norms[:60])
    evil = '<a href="https://evil.example">x</a>'
    rows = [{**row, "layer": evil if row["layer"] == "1" else "0"} for row in run.parameters.to_json()]
    run.parameters = ParameterTable.from_json(rows)
    report([run], tmp_path / "report.html", Look("a <b>title</b>"))
    browser.get((tmp_path / "report.html").as_uri())
    # the map is drawn: its picture, and a name for each layer
    wait_for(browser, "return document.querySelectorAll('.heatmaplayer image').length > 0")
    heat = "[...document.querySelectorAll('.chart')].find((c) => c.data && c.data[0].type === 'heatmap')"
    wait_for(browser, f"return {heat} && {heat}._ev !== undefined")
    names = browser.find_elements("css selector", ".heatmaplayer")  # drawn, and its axis with it
    assert names
    assert browser.find_elements("css selector", ".ytick a") == []
    ticks = browser.execute_script("return [...document.querySelectorAll('.ytick text')].map((t) => t.textContent)")
    assert evil in ticks
    assert browser.find_element("css selector", "h1").text == "a <b>title</b>"

    browser.find_elements("css selector", "table.layers tbody button")[1].click()
    assert browser.find_element("css selector", ".detail h3").text == f"layer {evil}"
    chosen = browser.find_element("css selector", "tr[aria-selected='true']")
    assert chosen.get_attribute("data-layer") == evil
    place = browser.execute_script(f"const b = {heat}.querySelector('.nsewdrag'); b.scrollIntoView(); return b")
    upper_left = place.size["width"] // -4, place.size["height"] // -4  # from its middle: the first layer
    ActionChains(browser).move_to_element_with_offset(place, *upper_left).pause(0.5).click().perform()
    wait_for(browser, "return document.querySelector('.detail h3').textContent === 'layer 0'")

    def order():
        return [
            row.get_attribute("data-layer") for row in browser.find_elements("css selector", "table.layers tbody tr")
        ]

    assert order() == ["0", evil]
    (button,) = [b for b in browser.find_elements("css selector", "table.layers th button") if b.text == "LCA (nats)"]
    button.click()
    totals = layers(run).total
    assert order() == [["0", evil][i] for i in np.argsort(totals)]
    button.click()
    assert order() == [["0", evil][i] for i in np.argsort(-totals)]

    loss_chart = "document.querySelector('.chart')"
    browser.execute_script(f"Plotly.relayout({loss_chart}, {{'xaxis.range[0]': 10, 'xaxis.range[1]': 20}})")
    wait_for(browser, f"return {heat}.layout.xaxis.range[0] === 10 && {heat}.layout.xaxis.range[1] === 20")

    paper = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(paper)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) != before
    wait_for(browser, f"return {loss_chart}.layout.paper_bgcolor === '#16191d'")
    assert browser.execute_script(f"return {loss_chart}.layout.xaxis.range") == [10, 20]  # the zoom stays
    assert browser.execute_script(f"return {heat}.layout.plot_bgcolor") == "#4a525a"  # missing is not 0
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    wait_for(browser, f"return {loss_chart}.layout.width === 680 && {loss_chart}.layout.paper_bgcolor === '#ffffff'")
    assert browser.find_elements("css selector", "details:not([open])") == []
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    wait_for(browser, f"return {loss_chart}.layout.paper_bgcolor === '#16191d' && {loss_chart}.layout.width !== 680")
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert (
        browser.execute_script(
            "return performance.getEntriesByType('resource').filter((r) => r.name.startsWith('http')).length"
        )
        == 0
    )
