"""Find the learning rates of the recipes: train briefly at several rates and compare the losses.

    PYTHONPATH=scripts .venv/bin/python -m paper.search_rates [--data-dir FOLDER] [--problem NAME …]
                                                [--optimizer sgd adam] [--seconds 60] [--rates 0.01 …]

Each problem is trained with SGD (momentum 0.9) and Adam at rates from the sequence 1, 2, 5, 10, … in the paper's range,
0.001 to 0.5. All rates use the same initial weights, the same mini-batches of 250 and the same number of iterations: as
many as fit into --seconds, but not more than in the recipe. The script prints the mean mini-batch loss of the last
quarter of each training run and marks the lowest. The iterates are not recorded. Short training favors high rates. If
the recipe is much longer and two losses differ by less than their standard error, choose the lower rate.

The datasets must be available, except for the embedded digits. Results for SGD on two cores, 12 to 45 s per rate:

                 iterations   loss (± standard error) at each rate                              chosen
    digits-resnet   300       0.02: 0.0102    0.05: 0.0027    0.1: 0.0009    0.2: 0.0003        0.1, like larger ResNets
    mnist-lenet      37       0.01: 0.65(3)   0.02: 0.47(2)   0.05: 0.33(2)  0.1: 0.31(2)       0.05
    mnist-resnet     43       0.05: 0.32(2)   0.1: 0.18(1)    0.2: 0.33(2)                      0.1
    cifar-fc         52       0.01: 1.95(1)   0.02: 1.94(1)   0.05: 2.18(3)  0.1: 2.305(1)      0.01
    cifar-vgg        58       0.05: 2.291(5)  0.1: 2.287(4)   0.2: diverges                     0.05
    cifar-vgg-mini   39       0.02: 1.95(1)   0.05: 1.98(2)   0.1: 2.07(2)                      0.02
    cifar-allcnn     13       0.02: 2.26(1)   0.05: 2.17(2)   0.1: 2.12(2)                      0.1

The rate 0.05 of mnist-fc was chosen by the percentage helping of complete runs. The rate 0.1 of cifar-resnet is
taken from the paper. The fashion problems use the rates of the MNIST problems. Adam always uses its default, 0.001.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import lca
from lca.errors import LCAError
from lca.problem.batches import take
from lca.problem.streaming import count_examples
from lca.problem.zoo import presets
from lca.text import table
from lca.training.batch_order import draw_indices
from lca.training.config import TrainConfig
from lca.training.loop import compute_mean_loss
from lca.training.optimizers import make_optimizer

RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
TRIED = {"sgd": RATES[3:], "adam": RATES[:5]}


def train(problem: str, data_dir: Path | None, config: TrainConfig) -> Iterator[float]:
    """Train a model and yield the mini-batch loss of each iteration."""
    loaded = lca.load(problem, data_dir=data_dir, seed=config.seed)
    model = loaded.model.train()
    optimizer = make_optimizer(model, config)
    torch.manual_seed(config.seed)
    for index in draw_indices(count_examples(loaded.train), config.batch_size, config.seed):
        optimizer.zero_grad()
        loss = compute_mean_loss(loaded, model, take(loaded.train, index), loaded.scale)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield float(loss.detach())


def count_iterations(problem: str, data_dir: Path | None, seconds: float) -> int:
    """Return how many iterations fit into `seconds`, but not more than in the recipe."""
    training = train(problem, data_dir, TrainConfig(device="cpu"))
    next(training)
    begin, n = time.perf_counter(), 3
    for _ in range(n):
        next(training)
    return min(int(seconds * n / (time.perf_counter() - begin)), presets.find(problem).duration["iterations"])


def average_last_quarter(course: list[float]) -> tuple[float, float]:
    """Return the mean and standard error of the losses in the last quarter. The mean is infinite after divergence."""
    part: NDArray[np.float64] = np.array(course[-max(len(course) // 4, 2) :])
    if not np.isfinite(part).all():
        return np.inf, np.nan
    return float(part.mean()), float(part.std(ddof=1) / np.sqrt(len(part)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    names = list(presets.PRESETS)
    parser.add_argument("--problem", nargs="+", choices=names, default=names, help="Problems to train.")
    parser.add_argument("--optimizer", nargs="+", choices=TRIED, default=list(TRIED), help="Optimizers to try.")
    parser.add_argument("--rates", nargs="+", type=float, help="Learning rates to try.")
    parser.add_argument("--seconds", type=float, default=60, help="Training time per rate, in seconds.")
    options = parser.parse_args()
    for problem in options.problem:
        try:
            n = count_iterations(problem, options.data_dir, options.seconds)
        except LCAError as error:
            print(f"{problem}: {error}")
            continue
        for optimizer in options.optimizer:
            courses = {}
            for rate in options.rates or TRIED[optimizer]:
                config = TrainConfig(optimizer=optimizer, learning_rate=rate, device="cpu")
                courses[rate] = list(islice(train(problem, options.data_dir, config), n))
            found = {rate: average_last_quarter(course) for rate, course in courses.items()}
            best = min(found, key=lambda rate: found[rate][0])
            rows = [
                [f"{rate:g}", f"{mean:.4f}", f"± {error:.4f}", "lowest" if rate == best else ""]
                for rate, (mean, error) in found.items()
            ]
            print(f"{problem}, {optimizer}, {n} iterations")
            print(table(["rate", "loss", "", ""], rows))
            parts = [part.mean() for part in np.array_split(courses[best], min(n, 10))]
            print(f"at {best:g}, mean of each tenth:", *(f"{part:.3f}" for part in parts), "\n", flush=True)


if __name__ == "__main__":
    main()
