"""The figures of the page, by name: what each is drawn of, and how, mostly by lca's own."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from paper.archive import Archive
from paper.experiments import MOMENTUM, SWEEP
from paper.findings import REGULAR_RATES, TABLE_1, rate_curve

import lca
from lca import figures
from lca.analysis import loss_curve, oscillation, overfit, prune, subset, synchrony, tails, trend
from lca.figures.style import DEFAULT, INK, Look, head, tidy

SECONDS = 30  # of a film, at most
MOMENT = 20  # the iteration of the paper's figure 2


def film(archive: Archive, path: Path, experiment: str) -> Path:
    """As MP4, or GIF where there is no ffmpeg."""
    run = archive.runs(experiment)[0]
    path = path.with_suffix(".mp4" if find_spec("imageio_ffmpeg") else ".gif")
    every = -(-run.n_iterations // (SECONDS * figures.Film().fps))
    figures.animation(run, path, film=figures.Film(every=every))
    return path


def frame(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.frame(archive.runs(experiment)[0], MOMENT, look)


def helping(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.helping(archive.helping(experiment)[0], look)


def helping_by_layer(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.helping_by_layer(archive.helping(experiment), look)


def helping_by_parameter(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.helping_by_parameter(archive.ask(lca.analysis.helping, experiment), look)


def distribution(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.distribution(archive.ask(tails, experiment, archive.over_most(experiment))[0], look)


def by_layer(archive: Archive, look: Look, groups: Mapping[str, str]) -> Figure:
    """groups: experiments, by what each is called."""
    return figures.layers({name: archive.layers(experiment) for name, experiment in groups.items()}, look)


def turns(archive: Archive, look: Look, experiment: str) -> Figure:
    return figures.oscillation(archive.ask(oscillation, experiment), look)


def delays(archive: Archive, look: Look) -> Figure:
    experiments = [*(f"cifar-resnet-delay-{delay}" for delay in MOMENTUM), "cifar-resnet-sgd"]
    runs = [run for experiment in experiments for run in archive.runs(experiment)]
    return figures.trend(trend(runs, "last:momentum", delay=True), look)


def peaks(archive: Archive, look: Look, what: str) -> Figure:
    return figures.peaks(archive.ask(synchrony, "mnist-fc-sgd", by_class=True)[0], look, what)


def errors(archive: Archive, look: Look, experiment: str) -> Figure:
    run = archive.runs(experiment, "first-order")[0]
    rules = {"first order": "first-order", "trapezoid": "trapezoid", "as allocated": "train"}
    return figures.error({told: loss_curve(run, name) for told, name in rules.items()}, look)


def subsets(archive: Archive, look: Look) -> Figure:
    return figures.subset(archive.ask(subset, "mnist-fc-sgd")[0], look)


def overfitting(archive: Archive, look: Look) -> Figure:
    archive.runs("mnist-fc-sgd", "val")
    return figures.overfit(archive.ask(overfit, "mnist-fc-sgd"), look)


def pruning(archive: Archive, look: Look) -> Figure:
    return figures.prune(prune(archive.runs("mnist-fc-sgd")[0], archive.problem("mnist-fc-sgd")), look)


def rates(archive: Archive, look: Look) -> Figure:
    """The percentage helping of MNIST–FC over the learning rate, with the paper's, a panel for each optimizer."""
    with look.figure(9, 3) as figure:
        panels = figure.subplots(1, len(REGULAR_RATES), sharey=True)
        for axes, (optimizer, rate) in zip(panels, REGULAR_RATES.items(), strict=True):
            name, value, _ = TABLE_1[f"mnist-fc-{optimizer}"]
            mean, deviation = map(float, value.split(" ± "))
            curve = rate_curve(archive, optimizer, rate)
            axes.axhspan(mean - deviation, mean + deviation, color=look.colours.others[1], alpha=0.3, linewidth=0)
            axes.axhline(mean, color=look.colours.others[1], label="the paper")
            axes.plot(list(curve), [each for each, _ in curve.values()], "o-", color=look.colours.others[0])
            axes.plot(rate, curve[rate][0], "o", color=INK, label="its recipe here")
            axes.set_xscale("log")
            axes.set_xlabel("learning rate")
            head(axes, name)
        panels[0].set_ylabel("helping %")
        panels[0].legend(frameon=False)
        tidy(*panels)
    return figure


def sweep(archive: Archive, look: Look) -> Figure:
    """The percentage helping of CIFAR–ResNet, by what is changed in its recipe."""
    experiments = {"regular": "cifar-resnet-sgd", **{name: f"cifar-resnet-{name}" for name in SWEEP}}
    found = {name: np.mean([r.percentage for r in archive.helping(each)]) for name, each in experiments.items()}
    with look.figure(7.2, 3) as figure:
        axes = figure.subplots()
        axes.axhspan(
            50.3, 51.6, color=look.colours.others[1], alpha=0.3, linewidth=0, label="the paper: 50.3 to 51.6 %"
        )
        axes.plot(list(found), list(found.values()), "o", color=look.colours.others[0])
        axes.tick_params("x", rotation=30)
        axes.set_ylabel("helping %")
        axes.legend(frameon=False)
        tidy(axes)
    return figure


def _layers_of(*experiments: str) -> Callable[..., Figure]:
    return partial(by_layer, groups={experiment: experiment for experiment in experiments})


FILMS = {"film-mnist-fc": "mnist-fc-sgd", "film-mnist-lenet": "mnist-lenet-sgd"}

DRAWINGS: Mapping[str, Callable[[Archive, Look], Figure]] = {
    "rates": rates,
    **{
        f"{name}-{problem}": partial(draw, experiment=f"{problem}-sgd")
        for name, draw, problems in (
            ("frame", frame, ("mnist-fc", "mnist-lenet")),
            ("helping", helping, ("mnist-fc", "cifar-resnet")),
            ("layers-helping", helping_by_layer, ("mnist-fc", "cifar-resnet")),
            ("parameters-helping", helping_by_parameter, ("mnist-fc", "cifar-resnet")),
            ("distribution", distribution, ("mnist-fc", "cifar-resnet")),
            ("oscillation", turns, ("cifar-resnet",)),
            ("error", errors, ("mnist-fc", "mnist-lenet", "cifar-resnet", "cifar-allcnn")),
        )
        for problem in problems
    },
    "sweep": sweep,
    **{
        f"layers-{problem}": _layers_of(f"{problem}-sgd")
        for problem in (
            "mnist-fc",
            "mnist-lenet",
            "mnist-resnet",
            "cifar-resnet",
            "cifar-allcnn",
            "cifar-vgg",
            "cifar-vgg-mini",
        )
    },
    "layers-cifar-resnet-adam": _layers_of("cifar-resnet-adam"),
    "layers-cifar-allcnn-adam": _layers_of("cifar-allcnn-adam"),
    "layers-transformer": _layers_of("charlm-transformer"),
    "groups-last": partial(
        by_layer,
        groups={
            "regular": "cifar-resnet-sgd",
            "last layer frozen": "cifar-resnet-last-frozen",
            "last layer at a tenth of the rate": "cifar-resnet-last-slow",
        },
    ),
    "groups-first": partial(
        by_layer, groups={"regular": "cifar-resnet-sgd", "first layer frozen": "cifar-resnet-first-frozen"}
    ),
    "trend": delays,
    "peaks-by-class": partial(peaks, what="LCA by class"),
    "peaks-lca": partial(peaks, what="LCA"),
    "peaks-gradient": partial(peaks, what="gradient norm"),
    "peaks-motion": partial(peaks, what="motion"),
    "subset": subsets,
    "overfit": overfitting,
    "prune": pruning,
}


def draw(archive: Archive, name: str, folder: Path) -> Path:
    """Draw a figure into a folder; LCAError if what it takes is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in FILMS:
        return film(archive, folder / name, FILMS[name])
    path = folder / f"{name}.png"
    figures.save(DRAWINGS[name](archive, DEFAULT), path, dpi=110)
    return path
