"""One page that tells the story of a run: a self-contained HTML file, which needs no network.

Charts are plotly's, whose script is inlined from its Python package: a single file of data and layouts, with zoom that
can be linked, and fewer dependencies than the alternatives. What people see is put together by report.js from the data
that is written here; all text goes into the page as text, never as markup.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca.analysis._error import LossCurve, loss_curve
from lca.analysis._everything import everything
from lca.analysis._helping import Helping
from lca.analysis._layers import Layers
from lca.analysis._neurons import MAX_CELLS, Neurons
from lca.analysis._overfit import Overfit
from lca.analysis._synchrony import Synchrony
from lca.analysis._tails import Tails
from lca.errors import UsageError
from lca.figures.style import CLIP, DEFAULT, Look, limit_of, one_or_more
from lca.store.run import Run
from lca.store.summary import summarize
from lca.text import cell, describe_run, describe_summary

MAX_COLUMNS = 900  # of the heat map: longer runs are summed in bins of iterations
MAX_NEURONS = 64  # shown of a layer: those of the largest total
MAX_NEURON_COLUMNS = 120
MAX_POINTS = 1_800  # of a curve
N_BARS = 60  # of the distribution, on either side

Floats = NDArray[np.float64]


def report(
    runs: Run | Sequence[Run], path: Path | str, look: Look = DEFAULT, name: str = "train", unconverged: bool = False
) -> None:
    """Write the page, .html, of one run or of several side by side; name: of the allocation in each."""
    path, runs = Path(path), one_or_more(runs)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"cannot write {path.name!r}: its suffix is {path.suffix or 'missing'}; .html was wanted.")
    if find_spec("plotly") is None:
        raise UsageError("the report needs a package of its own: pip install 'loss-change-allocation[report]'.")
    page = render([story(run, name, unconverged, MAX_CELLS // len(runs)) for run in runs], look)
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f"{path.name}.partial")
    making.write_text(page, encoding="utf-8")
    making.replace(path)


def render(stories: Sequence[Mapping[str, Any]], look: Look) -> str:
    """The page."""
    from plotly.offline import get_plotlyjs

    here = files("lca.figures")
    limit = max((story["heat"]["limit"] for story in stories), default=1.0)  # the same colours in all of them
    for story in stories:
        story["heat"]["limit"] = limit
    data = {"runs": stories, "colours": {"help": look.colours.help, "hurt": look.colours.hurt}}
    # In a script element "<" could end it; JSON can do without.
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": escape(look.title or "Loss Change Allocation"),
        "style": here.joinpath("report.css").read_text(encoding="utf-8"),
        "data": text,
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
        "script": here.joinpath("report.js").read_text(encoding="utf-8"),
    }
    page = here.joinpath("report.html").read_text(encoding="utf-8")
    for part, value in parts.items():
        page = page.replace(f"<!--{part}-->", value)
    return page


def story(run: Run, name: str, unconverged: bool, max_cells: int) -> dict[str, Any]:
    """What the page tells of a run, aggregated so that its size does not grow with the run."""
    allocation = run.allocation(name)
    found = everything(run, name, unconverged, max_cells, subsets=False)
    answers = found.answers
    chosen = run.parameters.layers
    curve = loss_curve(run, name)
    layers: Layers = answers["layers"]
    at = _thinned(len(curve.loss), MAX_POINTS)
    told: dict[str, Any] = {
        "path": str(run.path),
        "problem": run.attributes.get("problem", ""),
        "provenance": _lines(describe_run(run)),
        "certificate": _lines(describe_summary(summarize(allocation), str(run.path))),
        "split": str(allocation.attributes["split"]),
        "loss": {"x": at, "y": curve.loss[at]},
        "summed": _summed(curve),
        "heat": _heat(layers),
        "layers": [{"name": layer} for layer in chosen],
        "unanswered": [list(lacking) for lacking in found.unanswered.items()],
    }
    cumulative = np.where(np.isnan(layers.lca), np.nan, layers.cumulative)
    points = _thinned(len(cumulative), MAX_POINTS // 4)
    total = layers.total
    sizes = run.parameters.sum_by_layer(np.array(run.parameters.sizes, np.float64))
    for i, layer in enumerate(told["layers"]):
        layer |= {
            "parameters": int(sizes[i]),
            "lca": total[i],
            "share": 100 * total[i] / total.sum() if total.sum() else None,
            "cumulative": {"x": points, "y": cumulative[points, i]},
        }
    for question, add in _SECTIONS.items():
        if question in answers:
            add(told, answers[question])
    return told


def _add_helping(told: dict[str, Any], result: Helping) -> None:
    told["helping"] = result.percentage
    edges = _edges(len(result.helped), MAX_COLUMNS // 4)
    for i, (layer, percentage) in enumerate(zip(told["layers"], result.percentage_by_layer, strict=True)):
        members = result.layer == i
        helped, hurt = (
            np.add.reduceat(counts[:, members].sum(axis=1), edges[:-1]) for counts in (result.helped, result.hurt)
        )
        moved = helped + hurt
        share = np.divide(100 * helped, moved, out=np.full(len(moved), np.nan), where=moved > 0)
        layer |= {"helping": percentage, "helping_over_time": {"x": edges[:-1], "y": share}}


def _add_neurons(told: dict[str, Any], result: Neurons) -> None:
    total = result.total
    columns = _edges(result.lca.shape[1], MAX_NEURON_COLUMNS)
    counted = np.add.reduceat(result.iterations.counted, result.edges[:-1], dtype=np.int64)
    bounds = result.edges[columns]
    for layer in told["layers"]:
        rows = np.array([i for i, home in enumerate(result.units.layer) if home == layer["name"]], int)
        if not len(rows):
            continue
        rows = np.sort(rows[np.argsort(-np.abs(total[rows]), kind="stable")[:MAX_NEURONS]])
        lca = _means(result.lca[rows].T, counted, columns).T
        layer["neurons"] = {
            "names": [result.units.names[i] for i in rows],
            "total": total[rows],
            "x": _middles(bounds),
            "z": _rounded(lca),
            "limit": limit_of(lca),
            "of": sum(home == layer["name"] for home in result.units.layer),
        }


def _add_tails(told: dict[str, Any], result: Tails) -> None:
    if not result.both.n:
        return
    limit = result.both.percentile(CLIP)
    edges = np.linspace(0, limit, N_BARS + 1)
    told["distribution"] = {
        "edges": edges,
        "helped": result.helped.histogram(edges),
        "hurt": result.hurt.histogram(edges),
        "facts": [
            ["excess kurtosis", f"{result.kurtosis:,.1f}"],
            ["Weibull shape k, helping and hurting", f"{result.weibull_helped:.3f}, {result.weibull_hurt:.3f}"],
            ["contributed by the top 1 %", f"{100 * result.both.share_of_top(0.01):.1f} %"],
            ["contributed by the top 10 %", f"{100 * result.both.share_of_top(0.1):.1f} %"],
            ["Gini coefficient", f"{result.both.gini:.3f}"],
        ],
    }


def _add_synchrony(told: dict[str, Any], result: Synchrony) -> None:
    from lca.analysis._synchrony import report

    table = report([result]).tables[0]
    told["synchrony"] = {
        "columns": list(table.columns),
        "rows": [
            [row, *(cell(column, float(column.values[0, i]), float("nan")) for column in table.columns.values())]
            for i, row in enumerate(table.rows)
        ],
        "layers": result.layers,
        "peaks": [layer[layer >= 0] for layer in result.series["LCA"].peaks[0]],
        "synchronised": result.series["LCA"].synchronised[0],
    }
    for layer in told["layers"]:
        if layer["name"] in result.layers:
            layer["peaks"] = told["synchrony"]["peaks"][result.layers.index(layer["name"])]


def _add_overfit(told: dict[str, Any], result: Overfit) -> None:
    told["against"] = result.names[1]
    held_out = np.where(np.isnan(result.held_out), np.nan, np.nancumsum(result.held_out, axis=0))
    points = _thinned(len(held_out), MAX_POINTS // 4)
    for i, layer in enumerate(told["layers"]):
        layer["held_out"] = {"x": points, "y": held_out[points, i]}
        layer["gap"] = float(np.nansum(result.gap[:, i]))


_SECTIONS: dict[str, Any] = {
    "helping": _add_helping,
    "neurons": _add_neurons,
    "tails": _add_tails,
    "synchrony": _add_synchrony,
    "overfit": _add_overfit,
}


def _heat(layers: Layers) -> dict[str, Any]:
    """LCA by layer and bin of iterations, in nats an iteration; missing where nothing in a bin counts."""
    lca = layers.lca
    edges = _edges(len(lca), MAX_COLUMNS)
    means = _means(lca, layers.iterations.counted.astype(np.int64), edges)
    return {"x": _middles(edges), "z": _rounded(means.T), "limit": limit_of(means), "bin": int(edges[1] - edges[0])}


def _means(sums: Floats, counted: NDArray[np.int64], edges: NDArray[np.int64]) -> Floats:
    """sums (t, …), over counted (t,) iterations each -> the means between each two edges; NaN where none counts."""
    n = np.add.reduceat(counted, edges[:-1])[:, None]
    total = np.add.reduceat(np.nan_to_num(sums), edges[:-1], axis=0)
    return np.asarray(np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0))


def _middles(edges: NDArray[np.int64]) -> Floats:
    """Of bins of iterations, where charts put them."""
    return (edges[:-1] + edges[1:] - 1) / 2


def _summed(curve: LossCurve) -> dict[str, list[float | None]]:
    """What the parts sum to, by stretches of iterations, null between any two."""
    x: list[float | None] = []
    y: list[float | None] = []
    for stretch in curve.stretches:
        at = _thinned(len(stretch), max(2, MAX_POINTS * len(stretch) // len(curve.loss)))
        x += [*stretch[at].tolist(), None]
        y += [*curve.summed(stretch)[at].tolist(), None]
    return {"x": x, "y": y}


def _edges(n: int, at_most: int) -> NDArray[np.int64]:
    """The bounds of at most so many bins of n things."""
    step = -(-n // at_most)
    return np.unique(np.append(np.arange(0, n, step), n))


def _thinned(n: int, at_most: int) -> NDArray[np.int64]:
    """At most so many of n things, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).round().astype(np.int64))


def _rounded(values: Floats) -> list[list[float | None]]:
    """To four digits, more than a colour shows."""
    return [[float(f"{value:.4g}") if np.isfinite(value) else None for value in row] for row in values.tolist()]


def _lines(described: str) -> list[list[str]]:
    """The lines of text.facts, apart."""
    return [[part.strip() for part in line.split("  ", 1)] for line in described.splitlines()]


def _plain(value: Any) -> Any:
    """For JSON, with seven digits; what is not a number is null."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
