"""One page that tells the story of a run: a self-contained HTML file, which needs no network.

Charts are plotly's, whose script is inlined from its Python package: a single file of data and layouts, with zoom that
can be linked, and fewer dependencies than the alternatives. What people see is put together by report.js from the data
that is written here; all text goes into the page as text, never as markup.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lca.analysis.question import RunLike
from lca.errors import Step, UsageError
from lca.figures.asking import add_heading, list_given, open_given
from lca.figures.report_data import aggregate_run
from lca.figures.style import DEFAULT, Look, require_suffix
from lca.store.paths import whole_file

SUFFIXES = (".html", ".htm")


def report(
    runs: RunLike | Sequence[RunLike],
    path: Path | str,
    look: Look = DEFAULT,
    *,
    name: str = "train",
    unconverged: bool = False,
    render_remedy: Callable[[Step], str] = str,
) -> None:
    """Write one page about a run, or about several side by side; it opens from disk, without a network.

    Args:
        runs: A path, a Run, or a sequence of these.
        path: Where to write the page, .html.
        look: Title and colours; its other fields have no effect.
        name: Name of the allocation in each run.
        unconverged: Whether iterations that did not converge count.
        render_remedy: How arguments and calls of the library are written in the page.

    Raises:
        UsageError: The suffix is another one, `runs` is something else, or plotly is not installed.

    Example:
        >>> lca.figures.report(["run-0.zarr", "run-1.zarr"], "report.html")
    """
    path = Path(path)
    require_suffix(path, SUFFIXES)
    if find_spec("plotly") is None:
        raise UsageError(
            "plotly is not installed", remedy="Install it with: pip install 'loss-change-allocation[report]'"
        )
    opened = open_given(list_given(runs))
    data = [aggregate_run(run, name, unconverged, len(opened), render_remedy) for run in opened]
    page = render(data, add_heading(look, opened, name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def render(runs: Sequence[Mapping[str, Any]], look: Look) -> str:
    """The page; runs: what it tells of each, see report_data."""
    from plotly.offline import get_plotlyjs

    here = files("lca.figures")
    limit = max((run["heat"]["limit"] for run in runs), default=1.0)  # the same colours in all of them
    for run in runs:
        run["heat"]["limit"] = limit
    data = {"runs": runs, "colours": {"help": look.colours.help, "hurt": look.colours.hurt}}
    # In a script element "<" could end it; JSON can do without.
    text = json.dumps(_simplify(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {
        "title": escape(look.title or "Loss Change Allocation"),
        "style": here.joinpath("report.css").read_text(encoding="utf-8"),
        "data": text.replace("<", "\\u003c"),
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
        "script": here.joinpath("report.js").read_text(encoding="utf-8"),
    }
    page = here.joinpath("report.html").read_text(encoding="utf-8")
    for part, value in parts.items():
        page = page.replace(f"<!--{part}-->", value)
    return page


def _simplify(value: Any) -> Any:
    """For JSON, with seven digits; what is not a number is null."""
    if isinstance(value, Mapping):
        return {key: _simplify(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _simplify(value.tolist())
    if isinstance(value, list | tuple):
        return [_simplify(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
