"""The data of a run that a report embeds, aggregated so that the page does not grow with the length of the run."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca import analysis
from lca.analysis import Helping, Layers, LossCurve, Neurons, Overfit, Synchrony, Tails, Weibull
from lca.analysis._neurons import MAX_CELLS
from lca.analysis.bins import count_in_bins, find_centers, make_edges, mean_in_bins, thin
from lca.errors import Step
from lca.figures.axes import CLIP, Floats, choose_limit
from lca.figures.report_evidence import Evidence, estimate_layer_errors
from lca.store.run import Run
from lca.store.summary import summarize

MAX_COLUMNS = 900  # columns of the heat map of layers; longer runs are averaged in bins of iterations
MAX_BARS = 300  # largest number of bars in the chart of helping over time
MAX_NEURONS = 64  # largest number of neurons shown per layer, chosen by the magnitude of their total LCA
MAX_NEURON_COLUMNS = 120  # columns of the heat map of the neurons of a layer
MAX_POINTS = 1_800  # points of a curve
N_BARS = 60  # bars of the distribution, on either side of 0

Data = dict[str, Any]


def aggregate_run(
    run: Run, name: str, n_runs: int, render_remedy: Callable[[Step], str] = str
) -> tuple[Data, Evidence]:
    """Return the data of one of `n_runs` runs on the page, and the measurements for its findings."""
    found = analysis.everything(run, name=name, max_cells=MAX_CELLS // n_runs, subsets=False)
    curve, allocation = analysis.loss_curve(run, name=name), run.allocation(name)
    at = thin(len(curve.loss), MAX_POINTS)
    layers, helping = found.answers["layers"], found.answers.get("helping")
    assert isinstance(layers, Layers)
    assert isinstance(helping, Helping | None)
    summary, split = summarize(allocation), str(allocation.attributes["split"])
    errors = estimate_layer_errors(run, allocation, layers, summary.audit)
    data: Data = {
        "path": str(run.path),
        "problem": run.attributes.get("problem", ""),
        "provenance": run.facts(),
        "certificate": summary.facts(),
        "split": split,
        "unit": summary.unit,
        "iterations": len(curve.residual),
        "loss": {"x": at, "y": curve.loss[at]},
        "summed": _trace_stretches(curve, curve.rebuild_loss),
        "residual": _describe_residual(curve),
        "heat": _make_heat_map(layers),
        "layers": _describe_layers(run, layers),
        "unanswered": [[question, lack.describe(render_remedy)] for question, lack in found.unanswered.items()],
    }
    for question, add in _SECTIONS.items():
        if question in found.answers:
            add(data, found.answers[question])
    return data, Evidence(str(run.path), split, curve, layers, helping, summary, errors)


def _describe_layers(run: Run, layers: Layers) -> list[Data]:
    """Return the size of each layer, and its LCA in total and over time."""
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
    """Average the LCA of each layer in bins of iterations. A bin is None if none of its iterations is used."""
    edges = make_edges(len(layers.lca), MAX_COLUMNS)
    means = mean_in_bins(layers.lca, edges)
    limit = choose_limit(means)
    return {"x": find_centers(edges), "z": _round(means.T), "limit": limit, "bin": int(edges[1] - edges[0])}


def _trace_stretches(curve: LossCurve, compute: Callable[[NDArray[np.int64]], Floats]) -> Data:
    """Return the curve of `compute`, which maps the iterates of a stretch to values, with a gap after each stretch."""
    x: list[float | None] = []
    y: list[float | None] = []
    for stretch in curve.stretches:
        at = thin(len(stretch), max(2, MAX_POINTS * len(stretch) // len(curve.loss)))
        x += [*stretch[at].tolist(), None]
        y += [*compute(stretch)[at].tolist(), None]
    return {"x": x, "y": y}


def _describe_residual(curve: LossCurve) -> Data:
    """Return the residual of each iteration, and its sum so far: the difference between L₀ + Σ A and the loss.

    In long runs, each bin of iterations is represented by its largest residual, with its sign.
    """
    edges = make_edges(len(curve.residual), MAX_COLUMNS)
    parts = [part[np.isfinite(part)] for part in np.split(curve.residual, edges[1:-1])]
    largest = [float(part[np.argmax(np.abs(part))]) if len(part) else np.nan for part in parts]

    def add_up(stretch: NDArray[np.int64]) -> Floats:
        return np.append(0, np.cumsum(curve.residual[stretch[:-1]]))

    return {
        "x": find_centers(edges),
        "y": largest,
        "sum": _trace_stretches(curve, add_up),
        "bin": int(edges[1] - edges[0]),
        "tolerance": curve.tolerance,
    }


def _add_helping(data: Data, result: Helping) -> None:
    data["helping"] = result.percentage
    edges = make_edges(len(result.helped), MAX_BARS)
    shares = {key: mean_in_bins(getattr(result.shares, key), edges) for key in ("helped", "zero", "hurt")}
    data["shares"] = {"x": find_centers(edges), "bin": int(edges[1] - edges[0]), **shares}
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
            "x": find_centers(result.edges[columns]),
            "z": _round(lca),
            "limit": choose_limit(lca),
            "of": len(members),
        }


def _average_neurons(result: Neurons, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """Average the LCA of some neurons over the used iterations in each column. Returns shape (rows, columns)."""
    n_used = count_in_bins(result.iterations.mask, result.edges)
    known = np.where(n_used > 0, n_used, np.nan)
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
            ["Weibull shape k of all values except for 0", _describe_shapes(result.weibull)],
            [f"Weibull shape k of values above {result.weibull_above.cut:.2g}", _describe_shapes(result.weibull_above)],
            ["share of Σ|LCA| of the largest 1 %", f"{100 * result.both.share_of_top(0.01):.1f} %"],
            ["share of Σ|LCA| of the largest 10 %", f"{100 * result.both.share_of_top(0.1):.1f} %"],
            ["Gini coefficient", f"{result.both.gini:.3f}"],
        ],
    }


def _describe_shapes(fit: Weibull) -> str:
    return f"{fit.helped:.3f} (helping), {fit.hurt:.3f} (hurting)"


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
        "synchronized": result.series["LCA"].synchronized[0],
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
    """Round to four significant digits, which is more than a color shows."""
    return [[float(f"{value:.4g}") if np.isfinite(value) else None for value in row] for row in values.tolist()]
