"""What the page of a report tells of a run, aggregated so that its size does not grow with the run."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lca import analysis
from lca.analysis import Helping, Layers, LossCurve, Neurons, Overfit, Synchrony, Tails
from lca.analysis._neurons import MAX_CELLS
from lca.analysis.bins import count_in_bins, find_centres, make_edges, mean_in_bins, thin
from lca.errors import Step
from lca.figures.axes import CLIP, Floats, choose_limit
from lca.store.run import Run
from lca.store.summary import summarize

MAX_COLUMNS = 900  # of the heat map: longer runs are averaged in bins of iterations
MAX_NEURONS = 64  # shown of a layer: those of the largest total
MAX_NEURON_COLUMNS = 120
MAX_POINTS = 1_800  # of a curve
N_BARS = 60  # of the distribution, on either side

Data = dict[str, Any]


def aggregate_run(
    run: Run, name: str, unconverged: bool, n_runs: int, render_remedy: Callable[[Step], str] = str
) -> Data:
    """The data of one of n_runs on the page."""
    found = analysis.everything(run, name=name, unconverged=unconverged, max_cells=MAX_CELLS // n_runs, subsets=False)
    curve = analysis.loss_curve(run, name=name)
    at = thin(len(curve.loss), MAX_POINTS)
    allocation = run.allocation(name)
    layers = found.answers["layers"]
    assert isinstance(layers, Layers)
    data: Data = {
        "path": str(run.path),
        "problem": run.attributes.get("problem", ""),
        "provenance": run.facts(),
        "certificate": summarize(allocation).facts(),
        "split": str(allocation.attributes["split"]),
        "loss": {"x": at, "y": curve.loss[at]},
        "summed": _sum_parts(curve),
        "heat": _make_heat_map(layers),
        "layers": _describe_layers(run, layers),
        "unanswered": [[question, lack.describe(render_remedy)] for question, lack in found.unanswered.items()],
    }
    for question, add in _SECTIONS.items():
        if question in found.answers:
            add(data, found.answers[question])
    return data


def _describe_layers(run: Run, layers: Layers) -> list[Data]:
    """The size and the LCA of each layer, in total and over time."""
    cumulative = np.where(np.isnan(layers.lca), np.nan, layers.cumulative)
    points = thin(len(cumulative), MAX_POINTS // 4)
    total = layers.total
    sizes = run.parameters.sum_by_layer(np.array(run.parameters.sizes, np.float64))
    return [
        {
            "name": layer,
            "parameters": int(sizes[i]),
            "lca": total[i],
            "share": 100 * total[i] / total.sum() if total.sum() else None,
            "cumulative": {"x": points, "y": cumulative[points, i]},
        }
        for i, layer in enumerate(run.parameters.layers)
    ]


def _make_heat_map(layers: Layers) -> Data:
    """LCA by layer and bin of iterations, in nats per iteration; missing where nothing in a bin counts."""
    edges = make_edges(len(layers.lca), MAX_COLUMNS)
    means = mean_in_bins(layers.lca, edges)
    limit = choose_limit(means)
    return {"x": find_centres(edges), "z": _round(means.T), "limit": limit, "bin": int(edges[1] - edges[0])}


def _sum_parts(curve: LossCurve) -> Data:
    """The sum of the parts, by stretches of iterations, null between any two."""
    x: list[float | None] = []
    y: list[float | None] = []
    for stretch in curve.stretches:
        at = thin(len(stretch), max(2, MAX_POINTS * len(stretch) // len(curve.loss)))
        x += [*stretch[at].tolist(), None]
        y += [*curve.rebuild_loss(stretch)[at].tolist(), None]
    return {"x": x, "y": y}


def _add_helping(data: Data, result: Helping) -> None:
    data["helping"] = result.percentage
    starts = make_edges(len(result.helped), MAX_COLUMNS // 4)[:-1]
    for i, (layer, percentage) in enumerate(zip(data["layers"], result.percentage_by_layer, strict=True)):
        members = result.layer == i
        helped, hurt = (
            np.add.reduceat(counts[:, members].sum(axis=1), starts) for counts in (result.helped, result.hurt)
        )
        moved = helped + hurt
        share = np.divide(100 * helped, moved, out=np.full(len(moved), np.nan), where=moved > 0)
        layer |= {"helping": percentage, "helping_over_time": {"x": starts, "y": share}}


def _add_neurons(data: Data, result: Neurons) -> None:
    total = result.total
    columns = make_edges(result.lca.shape[1], MAX_NEURON_COLUMNS)
    for layer in data["layers"]:
        members = np.flatnonzero([home == layer["name"] for home in result.units.layer])
        if not len(members):
            continue
        rows = np.sort(members[np.argsort(-np.abs(total[members]), kind="stable")[:MAX_NEURONS]])
        lca = _average_neurons(result, rows, columns)
        layer["neurons"] = {
            "names": [result.units.names[i] for i in rows],
            "total": total[rows],
            "x": find_centres(result.edges[columns]),
            "z": _round(lca),
            "limit": choose_limit(lca),
            "of": len(members),
        }


def _average_neurons(result: Neurons, rows: np.ndarray[Any, Any], columns: np.ndarray[Any, Any]) -> Floats:
    """The mean LCA per iteration of these neurons, (row, column), over the iterations that count."""
    n_counted = count_in_bins(result.iterations.counted, result.edges)
    known = np.where(n_counted > 0, n_counted, np.nan)
    return np.asarray(mean_in_bins(result.lca[rows], columns, axis=1) / mean_in_bins(known, columns))


def _add_tails(data: Data, result: Tails) -> None:
    if not result.both.n:
        return
    edges = np.linspace(0, result.both.percentile(CLIP), N_BARS + 1)
    data["distribution"] = {
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


def _add_synchrony(data: Data, result: Synchrony) -> None:
    table = result.to_answer().tables[0]
    columns = table.columns
    peaks = [layer[layer >= 0] for layer in result.series["LCA"].peaks[0]]
    data["synchrony"] = {
        "columns": list(columns),
        "rows": [
            [row, *(column.format(float(column.values[0, i])) for column in columns.values())]
            for i, row in enumerate(table.rows)
        ],
        "layers": result.layers,
        "peaks": peaks,
        "synchronised": result.series["LCA"].synchronised[0],
    }
    for layer in data["layers"]:
        if layer["name"] in result.layers:
            layer["peaks"] = peaks[result.layers.index(layer["name"])]


def _add_overfit(data: Data, result: Overfit) -> None:
    data["against"] = result.names[1]
    held_out = np.where(np.isnan(result.held_out), np.nan, np.nancumsum(result.held_out, axis=0))
    points = thin(len(held_out), MAX_POINTS // 4)
    for i, layer in enumerate(data["layers"]):
        layer["held_out"] = {"x": points, "y": held_out[points, i]}
        layer["gap"] = float(np.nansum(result.gap[:, i]))


_SECTIONS: dict[str, Callable[[Data, Any], None]] = {
    "helping": _add_helping,
    "neurons": _add_neurons,
    "tails": _add_tails,
    "synchrony": _add_synchrony,
    "overfit": _add_overfit,
}


def _round(values: Floats) -> list[list[float | None]]:
    """To four digits, more than a colour shows."""
    return [[float(f"{value:.4g}") if np.isfinite(value) else None for value in row] for row in values.tolist()]
