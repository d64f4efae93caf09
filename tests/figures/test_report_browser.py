"""The report in a browser: its layout on a phone and on a screen, its links, and its reactions."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from handmade import add_allocation, make_run

from lca.analysis import layers
from lca.figures._report import report
from lca.figures.style import Look
from lca.store.parameters import ParameterTable

pytest.importorskip("plotly", reason="needs the extra `report`")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@contextmanager
def open_browser(profile):
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
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(tmp_path):
    with open_browser(tmp_path / "profile") as driver:
        yield driver


def wait_for(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(script))


def make_noisy_run(path, name="1"):
    """Create a run of 60 iterations in which layer 1 hurts, with allocations on the training and a held-out split."""
    lca = np.random.default_rng(0).normal(-1, 1, (7, 60))
    lca[3] += 3
    norms = np.random.default_rng(1).random((61, 4))
    run = make_run(path, lca, loss=np.linspace(3, 1, 61), gradient_norm=norms, motion_norm=norms[:60])
    add_allocation(run, "val", lca / 2, attributes={"split": "val"})
    rows = [{**row, "layer": name if row["layer"] == "1" else "0"} for row in run.parameters.to_json()]
    run.parameters = ParameterTable.from_json(rows)
    return run


def set_width(browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


DRAWN = "return [...document.querySelectorAll('.chart')].every((c) => c.data && c.querySelector('.main-svg'))"
# The elements that extend beyond the right edge of the window, except for those in a box that scrolls.
CUT_OFF = """
    return [...document.querySelectorAll("body *")].filter((e) => {
        const box = e.getBoundingClientRect();
        return box.width && box.right > innerWidth + 1 && !e.closest(".scroll");
    }).map((e) => e.outerHTML.slice(0, 100));
"""


@pytest.mark.parametrize("n_runs", [1, 2])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_window_and_findings_lead_to_charts(tmp_path, browser, width, n_runs):
    names = ["a_module_with_a_very_long_name.block3.conv2.weight_normalized", "1"]
    runs = [make_noisy_run(tmp_path / f"run-{i}.zarr", names[0]) for i in range(n_runs)]
    report(runs, tmp_path / "report.html")
    set_width(browser, width)
    browser.get((tmp_path / "report.html").as_uri())
    wait_for(browser, DRAWN)
    browser.find_elements("css selector", "table.layers tbody button")[1].click()
    wait_for(browser, DRAWN)
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(CUT_OFF) == []
    boxes = "return [...document.querySelectorAll('.scroll')].map((s) => s.scrollWidth - s.clientWidth)"
    assert set(browser.execute_script(boxes)) == {0}  # the tables need not scroll

    links = browser.find_elements("css selector", ".findings a")
    assert len(links) == 6 * (1 if n_runs == 1 else 1 + n_runs)
    for link in links:
        link.click()
        target = link.get_attribute("href").partition("#")[2]
        place = browser.find_element("id", target)
        assert place.is_displayed()
        assert browser.execute_script("return arguments[0].getBoundingClientRect().top < innerHeight", place)
        shown = place.find_elements("css selector", ".chart .main-svg, table, dl")
        assert any(element.is_displayed() for element in shown)


def test_every_chart_has_traces_and_every_signed_one_explains_its_sign(tmp_path, browser):
    report(make_noisy_run(tmp_path / "run.zarr"), tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())
    wait_for(browser, DRAWN)
    browser.find_elements("css selector", "table.layers tbody button")[1].click()
    wait_for(browser, DRAWN)
    sizes = "[...document.querySelectorAll('.chart')].map((c) => c.data.map((t) => `${t.type}:${(t.x || []).length}`))"
    traces = browser.execute_script(f"return {sizes}")
    assert (
        len(traces) == 9
    )  # loss, residual, helping, layers, cumulative, helping and neurons of a layer, distribution, peaks
    assert all(not trace.endswith(":0") for chart in traces for trace in chart)
    drawn = "path.js-line, .points path, .heatmaplayer image"
    empty = "return [...document.querySelectorAll('.chart')].filter((c) => !c.querySelector(arguments[0])).length"
    assert browser.execute_script(empty, drawn) == 0
    for part in ("helping", "over-time", "layers", "distribution", "synchrony"):
        assert "LCA below 0 helps, above 0 hurts." in browser.find_element("id", f"{part}-0").text
    notes = [note.text for note in browser.find_elements("css selector", ".detail .note")]
    assert [("LCA below 0 helps, above 0 hurts." in note) for note in notes] == [True, False, True]


def test_residual_has_its_own_panel_and_scale(tmp_path, browser):
    lca = np.full((7, 60), -0.1)
    run = make_run(tmp_path / "run.zarr", lca, loss=np.linspace(43, 1, 61), residual=np.full(60, 1e-5))
    report(run, tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())
    wait_for(browser, DRAWN)
    low, high = browser.execute_script("return document.querySelector('.chart.residual').layout.yaxis.range")
    assert -2e-3 < low <= -1e-3  # the tolerance is visible
    assert 1e-3 <= high < 2e-3
    top = browser.execute_script("return document.querySelector('.chart').getBoundingClientRect().bottom")
    assert browser.execute_script("return document.querySelector('.residual').getBoundingClientRect().top") >= top


def test_no_button_sends_a_chart_away(tmp_path, browser):
    report(make_noisy_run(tmp_path / "run.zarr"), tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())
    wait_for(browser, DRAWN)
    buttons = browser.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)"
    )
    assert set(buttons) == {"Download plot as a PNG", "Zoom", "Zoom in", "Zoom out", "Reset axes"}


def test_page_reacts_to_clicks_zoom_theme_and_print(tmp_path, browser):
    """A click in the table or in the map opens a layer, and a click on a heading sorts the table. All charts share the
    zoom, which is kept when the theme changes. The printed page is light and complete. Nothing is logged or loaded."""
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
    wait_for(browser, "return document.querySelectorAll('.heatmaplayer image').length > 0")
    heat = "[...document.querySelectorAll('.chart')].find((c) => c.data && c.data[0].type === 'heatmap')"
    wait_for(browser, f"return {heat} && {heat}._ev !== undefined")
    names = browser.find_elements("css selector", ".heatmaplayer")
    assert names
    assert browser.find_elements("css selector", ".ytick a") == []
    ticks = browser.execute_script("return [...document.querySelectorAll('.ytick text')].map((t) => t.textContent)")
    assert any(tick.endswith('://evil.example">x</a>') for tick in ticks)  # long names are shortened at the start
    assert browser.find_element("css selector", "h1").text == "a <b>title</b>"

    browser.find_elements("css selector", "table.layers tbody button")[1].click()
    assert browser.find_element("css selector", ".detail h3").text == f"layer {evil}"
    chosen = browser.find_element("css selector", "tr[aria-selected='true']")
    assert chosen.get_attribute("data-layer") == evil
    place = browser.execute_script(f"const b = {heat}.querySelector('.nsewdrag'); b.scrollIntoView(); return b")
    upper_left = (
        place.size["width"] // -4,
        place.size["height"] // -4,
    )  # from the center, so that the first layer is hit
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
    wait_for(browser, "return document.querySelector('.residual').layout.xaxis.range[1] === 20")

    paper = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(paper)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) != before
    wait_for(browser, f"return {loss_chart}.layout.paper_bgcolor === '#16191d'")
    wait_for(browser, f"return {loss_chart}.layout.xaxis.range[0] === 10")  # the zoom stays
    wait_for(browser, f"return {heat}.layout.xaxis.range[1] === 20")
    browser.execute_script(f"{loss_chart}.querySelector('[data-title=\"Reset axes\"]').click()")
    wait_for(browser, f"return {heat}.layout.xaxis.range[0] === -0.5 && {heat}.layout.xaxis.range[1] === 60.5")
    wait_for(browser, f"return {loss_chart}.layout.xaxis.range[1] === 60.5")
    missing = browser.execute_script(f"return {heat}.layout.shapes[0].fillcolor")
    assert missing == "#4a525a"  # differs from the color of 0
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
