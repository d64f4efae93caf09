"""The figures of the page by name, most of them drawn by lca.figures."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import lca
from lca import figures
from lca.analysis import (
    curves,
    helping,
    loss_curve,
    neurons,
    oscillation,
    overfit,
    prune,
    subset,
    synchrony,
    tails,
    trend,
)
from lca.figures.axes import set_title, tidy
from lca.figures.style import DEFAULT, INK, Look
from lca.store.blocks import ceil_div
from paper.archive import Archive
from paper.certainty import allocations_by_rule
from paper.experiments import ALLCNN, FC, LENET, RESNET, SWEEP
from paper.findings import RATES_OF_RUNS, TABLE_1
from paper.hurting import collect_losses, experiments_by_delay
from paper.noise import rate_curve

FILM_S = 30  # longest duration of a film, in seconds
MOMENT = 20  # the iteration that the paper's figure 2 shows

Drawing = Callable[[Archive, Look], Figure]


def draw_film(archive: Archive, path: Path, experiment: str) -> Path:
    """Write a film of the first run, as MP4 or, without ffmpeg, as GIF."""
    run = archive.first(experiment)
    path = path.with_suffix(".mp4" if find_spec("imageio_ffmpeg") else ".gif")
    every = ceil_div(run.n_iterations, FILM_S * figures.Film().fps)
    figures.animation(run, path, film=figures.Film(every=every))
    return path


def draw_frame(archive: Archive, look: Look, experiment: str) -> Figure:
    name = archive.over_time(experiment)
    return figures.frame(archive.first(experiment, name), look, name=name, iteration=MOMENT)


def draw_helping(archive: Archive, look: Look, experiment: str) -> Figure:
    name = archive.over_time(experiment)
    return figures.helping(helping(archive.first(experiment, name), name=name), look)


def draw_helping_by_layer(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.helping_by_layer(archive.helping(experiment), look)


def draw_helping_by_parameter(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.helping_by_parameter(archive.ask(helping, experiment, archive.over_time(experiment)), look)


def draw_distribution(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.distribution(archive.ask(tails, experiment, archive.over_most(experiment))[0], look)


def draw_curves(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.curves(curves(archive.first(experiment)), look)


def draw_neurons(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.neurons(archive.ask(neurons, experiment)[0], look)


def draw_layers(archive: Archive, look: Look, groups: Mapping[str, str]) -> Figure:
    """Draw the total LCA of each layer. `groups` maps labels to experiments."""
    return figures.layers({name: archive.layers(experiment) for name, experiment in groups.items()}, look)


def draw_oscillation(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.oscillation(archive.ask(oscillation, experiment), look)


def draw_trend(archive: Archive, look: Look) -> Figure:
    runs = [run for experiment in experiments_by_delay().values() for run in archive.runs(experiment)]
    return figures.trend(trend(runs, "last:momentum", delay=True), look)


def draw_peaks(archive: Archive, look: Look, experiment: str, what: str) -> Figure:
    by_class = what == "LCA by class"
    return figures.peaks(archive.ask(synchrony, experiment, by_class=by_class)[0], look, what=what)


def draw_error(archive: Archive, look: Look, experiment: str) -> Figure:
    run, names = allocations_by_rule(archive, experiment)
    return figures.error({rule: loss_curve(run, name=name) for rule, name in names.items()}, look)


def draw_subset(archive: Archive, look: Look, experiment: str) -> Figure:
    names = archive.subsets(experiment)
    return figures.subset(subset(archive.first(experiment, "train", *names), against=names), look)


def draw_overfit(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.overfit(archive.ask(overfit, experiment, "train", "val"), look)


def draw_prune(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.prune(prune(archive.first(experiment), lca.Evaluator(archive.problem(experiment))), look)


def draw_rates(archive: Archive, look: Look) -> Figure:
    """Draw the percentage helping of MNIST–FC against the learning rate, with one panel per optimizer."""
    with look.figure(9, 3) as figure:
        panels = figure.subplots(1, len(RATES_OF_RUNS), sharey=True)
        for axes, (optimizer, rate) in zip(panels, RATES_OF_RUNS.items(), strict=True):
            name, mean, deviation, _ = TABLE_1[f"mnist-fc-{optimizer}"]
            curve = rate_curve(archive, optimizer, rate)
            axes.axhspan(mean - deviation, mean + deviation, color=look.palette.others[1], alpha=0.3, linewidth=0)
            axes.axhline(mean, color=look.palette.others[1], label="paper")
            axes.plot(list(curve), list(curve.values()), "o-", color=look.palette.others[0])
            axes.plot(rate, curve[rate], "o", color=INK, label="runs of table 1")
            axes.set_xscale("log")
            axes.set_xticks(list(curve), [f"{each:g}" for each in curve], rotation=45)
            axes.set_xticks([], minor=True)
            axes.set_xlabel("learning rate")
            set_title(axes, name)
        panels[0].set_ylabel("parameters helping (%)")
        panels[0].legend(frameon=False)
        tidy(*panels)
    return figure


def draw_sweep(archive: Archive, look: Look) -> Figure:
    """Draw the percentage helping of CIFAR–ResNet for each change of its recipe."""
    experiments = {"regular": RESNET, **{name: f"cifar-resnet-{name}" for name in SWEEP}}
    found = {name: np.mean([r.percentage for r in archive.helping(each)]) for name, each in experiments.items()}
    with look.figure(7.2, 3) as figure:
        axes = figure.subplots()
        axes.axhspan(50.3, 51.6, color=look.palette.others[1], alpha=0.3, linewidth=0, label="paper")
        axes.plot(list(found), list(found.values()), "o", color=look.palette.others[0])
        axes.tick_params("x", rotation=30)
        axes.set_ylabel("parameters helping (%)")
        axes.legend(frameon=False)
        tidy(axes)
    return figure


def draw_losses(archive: Archive, look: Look) -> Figure:
    """Draw the final loss of each run and its mean, for regular runs and for a frozen or slow last layer."""
    changed = {"frozen": "cifar-resnet-last-frozen", "slow": "cifar-resnet-last-slow"}
    found = {name: collect_losses(archive, experiment) for name, experiment in changed.items()}
    splits = list(found["frozen"])
    with look.figure(2.6 * len(splits), 3) as figure:
        for axes, split in zip(np.atleast_1d(figure.subplots(1, len(splits))), splits, strict=True):
            groups = {"regular": found["frozen"][split][1], **{name: found[name][split][0] for name in changed}}
            for i, (values, color) in enumerate(zip(groups.values(), look.palette.others, strict=False)):
                axes.bar(i, values.mean(), color=color, alpha=0.4)
                axes.plot(np.full(len(values), i), values, ".", color=INK)
            axes.set_xticks(range(len(groups)), list(groups))
            axes.set_ylabel(f"{split} loss (nats)")
            tidy(axes)
    return figure


def _draw_each(draw: Callable[..., Figure], name: str, *experiments: str) -> dict[str, Drawing]:
    """Return a drawing for each experiment, named after its problem."""
    return {f"{name}-{each.removesuffix('-sgd')}": partial(draw, experiment=each) for each in experiments}


FILMS = {"film-mnist-fc": FC, "film-mnist-lenet": LENET}

DRAWINGS: Mapping[str, Drawing] = {
    **{f"helping-{each}": partial(draw_helping, experiment=each) for each in TABLE_1},
    "rates": draw_rates,
    **_draw_each(draw_frame, "frame", FC, LENET),
    **_draw_each(draw_curves, "curves", FC),
    **_draw_each(draw_neurons, "neurons", FC),
    **_draw_each(draw_helping_by_layer, "layers-helping", FC, RESNET),
    **_draw_each(draw_helping_by_parameter, "parameters-helping", FC, RESNET),
    **_draw_each(draw_distribution, "distribution", FC, RESNET),
    **_draw_each(draw_oscillation, "oscillation", RESNET),
    "sweep": draw_sweep,
    **{
        f"layers-{each}": partial(draw_layers, groups={each: each})
        for each in (
            *(FC, LENET, RESNET, ALLCNN, "mnist-resnet-sgd", "cifar-vgg-sgd", "cifar-vgg-mini-sgd"),
            *("cifar-resnet-adam", "cifar-allcnn-adam", "charlm-transformer"),
        )
    },
    "groups-last": partial(
        draw_layers,
        groups={
            "regular": RESNET,
            "last layer frozen": "cifar-resnet-last-frozen",
            "last layer at a tenth of the rate": "cifar-resnet-last-slow",
        },
    ),
    "groups-first": partial(draw_layers, groups={"regular": RESNET, "first layer frozen": "cifar-resnet-first-frozen"}),
    "losses": draw_losses,
    "trend": draw_trend,
    "peaks-by-class": partial(draw_peaks, experiment=FC, what="LCA by class"),
    "peaks-lca": partial(draw_peaks, experiment=FC, what="LCA"),
    "peaks-gradient": partial(draw_peaks, experiment=FC, what="gradient norm"),
    "peaks-motion": partial(draw_peaks, experiment=FC, what="motion"),
    "peaks-cifar-resnet": partial(draw_peaks, experiment=RESNET, what="LCA"),
    **_draw_each(draw_error, "error", FC, LENET, RESNET, ALLCNN),
    "subset": partial(draw_subset, experiment=FC),
    "overfit": partial(draw_overfit, experiment=FC),
    "prune": partial(draw_prune, experiment=FC),
}


def draw(archive: Archive, name: str, folder: Path) -> Path:
    """Draw a figure or film into a folder and return its path. Raises LCAError if the runs it needs are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in FILMS:
        return draw_film(archive, folder / name, FILMS[name])
    path = folder / f"{name}.png"
    figures.save(DRAWINGS[name](archive, DEFAULT), path, dpi=110)
    return path
