"""`lca analyze QUESTION RUN...`: one command a question."""

from collections.abc import Sequence
from pathlib import Path

import click

from lca.shell import json_option, name_option, open_alike, print_report, runs_argument


@click.group()
def analyze() -> None:
    """Ask a question about runs that are allocated."""


@analyze.command("helping")
@runs_argument
@name_option
@json_option
def analyze_helping(runs: Sequence[str], name: str, json_file: Path | None) -> None:
    """The percentage of parameters that help in an iteration, of those with non-zero LCA.

    \b
    lca analyze helping run-0.zarr run-1.zarr run-2.zarr --json helping.json
    """
    from lca.analysis.helping import report

    print_report(report(open_alike(runs), name), json_file)


@analyze.command("layers")
@runs_argument
@name_option
@json_option
def analyze_layers(runs: Sequence[str], name: str, json_file: Path | None) -> None:
    """The total LCA of each layer, its biases and norms with its kernel. Below 0 it helped, above it hurt.

    \b
    lca analyze layers run.zarr
    """
    from lca.analysis.layers import report

    print_report(report(open_alike(runs), name), json_file)
