"""Reproduce the paper: train and allocate the runs of its tables and figures, and check every finding.

    .venv/bin/python scripts/reproduce_paper.py --scale smoke [--out reproduction] [--data-dir FOLDER] [--only GLOB …]
                                                      [--runs 1]
    torchrun --nproc-per-node=8 scripts/reproduce_paper.py --scale paper

smoke   Every experiment and figure in miniature, with embedded digits instead of MNIST and CIFAR-10: 44 experiments,
        64 runs, 65 findings. This shows that everything runs, but does not test the paper. 5 minutes on two cores,
        250 MB.
cpu     MNIST–FC in full. The other networks are trained for fewer iterations, or allocated over some of the examples or
        iterations, as stated next to every number. The forecast is about a day on two cores and 60 GB. Only MNIST–FC
        has been run so far.
paper   Everything in full, on one GPU or on several with torchrun. The forecast is 0.6 TB. Not run so far.

The output is a store for each run (OUT/SCALE/runs), the figures (OUT/SCALE/figures), and a page with every finding
(OUT/SCALE/index.html and index.md). Only missing parts are made: repeat the command to continue an interrupted
reproduction. With --page, the command only rewrites the page from the finished runs. The experiments are listed in
scripts/paper/experiments.py, and the findings in scripts/paper/findings.py.
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
from paper.forecast import describe_device, forecast
from paper.making import Work, make, plan
from paper.page import write_page


def print_forecast(works: dict[str, list[Work]], data_dir: Path | None, n_processes: int) -> None:
    every = [work for runs in works.values() for work in runs]
    found = forecast(every, data_dir)
    n_allocations = sum(len(work.allocations) for work in every)
    print(
        f"{pluralize(len(works), 'experiment')}, {pluralize(len(every), 'run')}, "
        f"{pluralize(n_allocations, 'allocation')}, {found.n_missing:,} of them missing: "
        f"about {duration(found.seconds / n_processes)} and {size(found.n_bytes)} with {describe_device()}",
        flush=True,
    )
    for experiment, reason in found.unknown.items():
        print(f"not in this forecast: {experiment}: {reason}", flush=True)


def make_all(works: dict[str, list[Work]], data_dir: Path | None, team: Workers) -> dict[str, str]:
    """Make the missing runs, print one line per experiment, and return the reason for each failed experiment.

    After a failure, the other experiments continue. If several processes work together, a failure ends all of them.
    """
    failures: dict[str, str] = {}
    for i, (name, runs) in enumerate(works.items(), start=1):
        begin, is_finished = time.perf_counter(), True
        for work in runs:
            try:
                is_finished = is_finished and not work.missing
                make(work, data_dir, team, progress=team.first and sys.stderr.isatty())
            except Interrupted:
                raise
            except LCAError as error:
                if team.size > 1:
                    raise
                failures[name] = f"{work.path.name}: {error}"
        if team.first:
            n_allocations = sum(len(work.allocations) for work in runs)
            text = f"{pluralize(len(runs), 'run')}, {pluralize(n_allocations, 'allocation')}"
            took = "already finished" if is_finished else duration(time.perf_counter() - begin)
            text += f": {took}" if name not in failures else f"; failed: {failures[name]}"
            print(f"{i:3d}/{len(works)}  {name:<30}  {text}", flush=True)
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scale", choices=SCALES, default="smoke", help="Scale of the reproduction, as described above."
    )
    parser.add_argument("--out", type=Path, default=Path("reproduction"), help="Folder in which the output is written.")
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    parser.add_argument(
        "--only", nargs="+", metavar="GLOB", default=["*"], help="Run only experiments that match one of the globs."
    )
    parser.add_argument("--runs", type=int, help="Maximum number of runs per experiment.")
    parser.add_argument(
        "--page", action="store_true", help="Rewrite the page from the finished runs, and make no runs."
    )
    options = parser.parse_args()
    sizes, folder = SCALES[options.scale], options.out / options.scale

    def is_chosen(name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in options.only)

    works = plan(sizes, folder / "runs", is_chosen, options.runs)
    if not works:
        parser.error(
            f"no experiment matches {' or '.join(options.only)}. The experiments are "
            f"{', '.join(e.name for e in EXPERIMENTS)}."
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
        sys.exit(f"{error}\nFinished parts are kept. Repeat the command to continue.")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
