"""A self-contained HTML page about one or more runs, which needs no network connection.

Charts are drawn by plotly, whose script comes with its Python package. The data are embedded as JSON, and the scripts
`report.*.js` build the page from them. They insert every text as text, never as markup.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
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
from lca.figures.report_findings import find
from lca.figures.report_sentences import Finding
from lca.figures.style import DEFAULT, Look, require_suffix
from lca.store.local import whole_file

SUFFIXES = (".html", ".htm")
SCRIPTS = ("report.base.js", "report.charts.js", "report.tables.js", "report.js")  # in the order in which they run


def report(
    runs: RunLike | Sequence[RunLike],
    path: Path | str,
    look: Look = DEFAULT,
    *,
    name: str = "train",
    render_remedy: Callable[[Step], str] = str,
) -> None:
    """Write an HTML page about one or more runs, which opens without a network connection.

    The page begins with findings in sentences, followed by charts and tables for each run. If there are several runs,
    which must be of the same model, the findings describe means over the runs.

    Args:
        runs: A path, a ``Run``, or a sequence of these.
        path: Path of the page, with the suffix .html or .htm.
        look: Title and colors of the page. The other fields have no effect.
        name: Name of the allocation in each run.
        render_remedy: Function that formats the arguments and calls in the remedies of unanswered questions.

    Raises:
        UsageError: The suffix is not .html or .htm, an element of ``runs`` is not a run, or plotly is not installed.

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
    both = [aggregate_run(run, name, len(opened), render_remedy) for run in opened]
    findings = find([evidence for _, evidence in both])
    page = render([data for data, _ in both], add_heading(look, opened, name), findings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def render(runs: Sequence[Mapping[str, Any]], look: Look, findings: Sequence[Finding] = ()) -> str:
    """Return the HTML page about runs of the same model. `runs` contains the data of each run from `aggregate_run`."""
    from plotly.offline import get_plotlyjs

    limit = max((run["heat"]["limit"] for run in runs), default=1.0)  # the same color scale for all runs
    for run in runs:
        run["heat"]["limit"] = limit
    colors = {"help": look.palette.help, "hurt": look.palette.hurt}
    data = {"runs": runs, "findings": [asdict(finding) for finding in findings], "colors": colors}
    # A "<" could end the script element, so it is escaped as JSON allows.
    text = json.dumps(_simplify(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {
        "title": escape(look.title or "Loss Change Allocation"),
        "style": _read("report.css"),
        "data": text.replace("<", "\\u003c"),
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
        "script": "\n".join(map(_read, SCRIPTS)),
    }
    page = _read("report.html")
    for part, value in parts.items():
        page = page.replace(f"<!--{part}-->", value)
    return page


def _read(name: str) -> str:
    return files("lca.figures").joinpath(name).read_text(encoding="utf-8")


def _simplify(value: Any) -> Any:
    """Convert a value for JSON: floats are rounded to seven significant digits, or become None if not finite."""
    if isinstance(value, Mapping):
        return {key: _simplify(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _simplify(value.tolist())
    if isinstance(value, list | tuple):
        return [_simplify(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
