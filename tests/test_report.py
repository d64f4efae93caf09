"""The report: what it tells, that nothing in it can be markup, and that it works in a browser."""

import json
import re
import shutil

import numpy as np
import pytest
from handmade import CONVERGED, LCA, add_allocation, make_run
from torch import nn

from lca.analysis import helping, layers, neurons
from lca.errors import UsageError
from lca.figures import report
from lca.figures.style import Look

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
    report.write([run, run], tmp_path / "new" / "report.html", Look("two runs"))
    told = data_of(tmp_path / "new" / "report.html")
    assert len(told["runs"]) == 2
    of_run = told["runs"][0]
    assert of_run["loss"] == {"x": [0, 1, 2, 3, 4], "y": [3, 2, 1.5, 1, None], "summed": of_run["loss"]["summed"]}
    by_layer = layers(run)
    assert [layer["lca"] for layer in of_run["layers"]] == pytest.approx(by_layer.total, rel=1e-3)
    np.testing.assert_allclose(np.array(of_run["heat"]["z"], float), by_layer.lca.T, rtol=1e-3)
    assert of_run["helping"] == pytest.approx(helping(run).percentage, rel=1e-3)
    assert [layer["gap"] for layer in of_run["layers"]] == pytest.approx(-by_layer.total / 2, rel=1e-3)
    assert of_run["layers"][1]["neurons"]["names"] == ["1[0]", "1[1]"]
    assert of_run["layers"][1]["neurons"]["total"] == pytest.approx(neurons(run).total[1:], rel=1e-3)
    assert dict(of_run["certificate"])["Σ A"]
    assert ["run", f"{run.path}, complete"] in of_run["provenance"]
    assert sum(of_run["distribution"]["helped"]) > 0


def test_no_text_can_be_markup(tmp_path):
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    run = made(tmp_path / "run.zarr")
    run.attributes |= {"problem": evil, "command": evil}
    report.write([run], tmp_path / "report.html", Look(evil))
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<img" not in page.replace(report.render([], Look()), "").split("<script>", 1)[0]
    assert data_of(tmp_path / "report.html")["runs"][0]["problem"] == evil
    assert "<title>&lt;/script&gt;" in page


def test_it_needs_no_network_and_stays_small(tmp_path):
    """At the length of the paper's ResNet: 4,500 iterations of 22 layers."""
    model = nn.Sequential(*(nn.Linear(1, 70) if i % 2 == 0 else nn.Linear(70, 1) for i in range(22)))
    K = sum(parameter.numel() for parameter in model.parameters())
    lca = np.random.default_rng(0).normal(size=(K, 4_500)).astype(np.float32)
    norms = np.ones((4_501, 44))
    run = make_run(tmp_path / "run.zarr", lca, model=model, gradient_norm=norms, motion_norm=norms[:-1])
    report.write([run], tmp_path / "report.html", Look())
    assert (tmp_path / "report.html").stat().st_size < 8e6
    page = (tmp_path / "report.html").read_text()
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)=[\"'](?!data:)", outside)
    assert len(data_of(tmp_path / "report.html")["runs"][0]["heat"]["x"]) == 900


def test_what_is_not_there_is_left_out(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, keep=False)
    report.write([run], tmp_path / "report.html", Look())
    (of_run,) = data_of(tmp_path / "report.html")["runs"]
    assert "distribution" not in of_run
    assert "helping" not in of_run
    assert "neurons" in dict(of_run["unanswered"])


def test_another_suffix_and_a_missing_package_are_told(tmp_path, monkeypatch):
    run = made(tmp_path / "run.zarr")
    with pytest.raises(UsageError, match=r"its suffix is \.pdf; \.html was wanted"):
        report.write([run], tmp_path / "report.pdf", Look())
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'loss-change-allocation\[report\]'"):
        report.write([run], tmp_path / "report.html", Look())


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


def wait_for(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(script))


def test_in_a_browser(tmp_path, browser):
    """It opens from disk without a word in the console; a layer opens by a click, in the table and in the map; columns
    sort; zooming in one chart zooms the other; the theme changes."""
    lca = np.random.default_rng(0).normal(-1, 1, (7, 60))
    lca[3] += 3
    norms = np.random.default_rng(1).random((61, 4))
    loss = np.linspace(3, 1, 61)
    run = make_run(tmp_path / "run.zarr", lca, loss=loss, gradient_norm=norms, motion_norm=norms[:60])
    report.write([run], tmp_path / "report.html", Look("a <b>title</b>"))
    browser.get((tmp_path / "report.html").as_uri())
    # the map is drawn: its picture, and a name for each layer
    wait_for(browser, "return document.querySelectorAll('.heatmaplayer image').length > 0")
    heat = "[...document.querySelectorAll('.chart')].find((c) => c.data && c.data[0].type === 'heatmap')"
    wait_for(browser, f"return {heat} && {heat}._ev !== undefined")
    assert browser.execute_script(f"return {heat}.data[0].y") == ["0", "1"]
    assert browser.find_element("css selector", "h1").text == "a <b>title</b>"

    browser.find_element("css selector", "tr[data-layer='1'] button").click()
    assert browser.find_element("css selector", ".detail h3").text == "layer 1"
    assert browser.find_element("css selector", "tr[data-layer='1']").get_attribute("aria-selected") == "true"
    browser.execute_script(f"{heat}.emit('plotly_click', {{points: [{{y: '0'}}]}})")
    assert browser.find_element("css selector", ".detail h3").text == "layer 0"

    def order():
        return [
            row.get_attribute("data-layer") for row in browser.find_elements("css selector", "table.layers tbody tr")
        ]

    assert order() == ["0", "1"]
    (button,) = [b for b in browser.find_elements("css selector", "table.layers th button") if b.text == "LCA (nats)"]
    button.click()
    totals = layers(run).total
    assert order() == [str(i) for i in np.argsort(totals)]
    button.click()
    assert order() == [str(i) for i in np.argsort(-totals)]

    loss_chart = "document.querySelector('.chart')"
    browser.execute_script(f"Plotly.relayout({loss_chart}, {{'xaxis.range[0]': 10, 'xaxis.range[1]': 20}})")
    wait_for(browser, f"return {heat}.layout.xaxis.range[0] === 10 && {heat}.layout.xaxis.range[1] === 20")

    paper = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(paper)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) != before
    wait_for(browser, f"return {loss_chart}.layout.paper_bgcolor === '#16191d'")
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert (
        browser.execute_script(
            "return performance.getEntriesByType('resource').filter((r) => r.name.startsWith('http')).length"
        )
        == 0
    )
