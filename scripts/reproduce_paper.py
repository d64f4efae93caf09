"""Redo the paper: train and allocate what its tables and figures are made of, and hold every finding against ours.

    .venv/bin/python scripts/reproduce_paper.py --scale smoke [--out reproduction] [--data-dir FOLDER] [--only GLOB …]
                                                      [--runs 1]
    torchrun --nproc-per-node=8 scripts/reproduce_paper.py --scale paper

smoke   Embedded digits in place of MNIST and CIFAR-10, every experiment and figure in miniature: 44 experiments, 64
        runs, 65 findings. It shows that all of it runs, and nothing about the paper. 5 minutes on two cores, 250 MB.
cpu     MNIST–FC whole; the others for a part of their training, over some of the examples or in some of the iterations,
        said beside every number. By its forecast about a day on two cores, and 60 GB; run for MNIST–FC so far.
paper   Everything whole, on a GPU, or on several under torchrun; by its forecast 0.6 TB. Not run so far.

What is written: OUT/SCALE/runs, a store for each run; OUT/SCALE/figures; OUT/SCALE/index.html and index.md, one page
with every finding. Only what is missing is made: given again, the command goes on where it was, and its page has what
is there; with --page it only writes the page anew. The table of experiments is scripts/paper/experiments.py, that of
findings scripts/paper/findings.py.
"""

import argparse
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

from lca.errors import Interrupted, LCAError
from lca.runtime.workers import Workers, join_workers
from lca.text import duration, pluralize, size
from paper.experiments import EXPERIMENTS, SCALES
from paper.forecast import device_name, forecast
from paper.making import Work, make, plan
from paper.page import write_page


def print_forecast(works: dict[str, list[Work]], data_dir: Path | None, n_processes: int) -> None:
    every = [work for runs in works.values() for work in runs]
    found = forecast(every, data_dir)
    n_allocations = sum(len(work.allocations) for work in every)
    print(
        f"{pluralize(len(works), 'experiment')}, {pluralize(len(every), 'run')}, "
        f"{pluralize(n_allocations, 'allocation')}, {found.n_missing:,} of them missing: "
        f"about {duration(found.seconds / n_processes)} and {size(found.n_bytes)} with {device_name()}",
        flush=True,
    )
    for experiment, why in found.unknown.items():
        print(f"not in this: {experiment}: {why}", flush=True)


def make_all(works: dict[str, list[Work]], data_dir: Path | None, team: Workers) -> dict[str, str]:
    """Make what is missing, a line for each experiment; why runs failed, by their experiment.

    A failure is no hindrance to other runs, but where several processes work together it ends them all.
    """
    failures: dict[str, str] = {}
    for i, (name, runs) in enumerate(works.items(), start=1):
        begin, found_there = time.perf_counter(), True
        for work in runs:
            try:
                found_there = found_there and not work.missing
                make(work, data_dir, team, progress=team.first and sys.stderr.isatty())
            except Interrupted:
                raise
            except LCAError as error:
                if team.size > 1:
                    raise
                failures[name] = f"{work.path.name}: {error}"
        if team.first:
            n_allocations = sum(len(work.allocations) for work in runs)
            told = f"{pluralize(len(runs), 'run')}, {pluralize(n_allocations, 'allocation')}"
            took = "there already" if found_there else duration(time.perf_counter() - begin)
            told += f": {took}" if name not in failures else f"; failed: {failures[name]}"
            print(f"{i:3d}/{len(works)}  {name:<30}  {told}", flush=True)
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="smoke")
    parser.add_argument("--out", type=Path, default=Path("reproduction"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="+", default=["*"], help="experiments, by globs of their names")
    parser.add_argument("--runs", type=int, help="of each experiment, at most")
    parser.add_argument("--page", action="store_true", help="make nothing, only the page of what is there")
    options = parser.parse_args()
    sizes, folder = SCALES[options.scale], options.out / options.scale

    def is_chosen(name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in options.only)

    works = plan(sizes, folder / "runs", is_chosen, options.runs)
    if not works:
        parser.error(
            f"no experiment is like {' or '.join(options.only)}; there are {', '.join(e.name for e in EXPERIMENTS)}"
        )
    failures: dict[str, str] = {}
    try:
        with join_workers() as team:
            if team.first and not options.page:
                print_forecast(works, options.data_dir, team.size)
            if not options.page:
                failures = make_all(works, options.data_dir, team)
            if team.first:
                every = plan(sizes, folder / "runs", lambda name: True)
                print(write_page(every, folder, options.scale, options.data_dir, failures))
                team.add("page")
            team.wait("page")
    except LCAError as error:
        sys.exit(f"{error}\nWhat is made is kept; the same command goes on.")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
