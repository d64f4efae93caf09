"""Results as text: pure functions from values to strings."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lca.analysis.report import Column, Report, Table
    from lca.audit import Audit
    from lca.preflight import Preflight
    from lca.store import Run
    from lca.summary import Summary
    from lca.training import TrainConfig
    from lca.verify import Verdict
    from lca.zoo.catalogue import Entry
    from lca.zoo.presets import Option


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Columns as wide as they need to be, those of words to the left and those of numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(["─" * width for width in widths]), *map(line, rows)])


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """One line per (label, value), the values below each other."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label.ljust(width)}  {value}" for label, value in rows)


def plus_minus(mean: float, deviation: float, digits: int) -> str:
    """ "1.23 ± 0.04", or without the deviation where there is none (NaN)."""
    return f"{mean:.{digits}f}" if deviation != deviation else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def size(n_bytes: float) -> str:
    """ "1.2 MB": three digits or so, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def duration(seconds: float) -> str:
    """ "12 s", "3 min 20 s", "5 h 10 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{max(1, rest)} s"


def count(n: int, noun: str) -> str:
    """ "1 iteration", "2 iterations", "3 passes"."""
    return f"{n:,} {noun}" + ("" if n == 1 else "es" if noun.endswith("s") else "s")


def describe_run(run: "Run") -> str:
    """What a run store holds, how far it is, its size, and the command that made it."""
    attributes = run.attributes
    train, initial, codec = attributes.get("train", {}), attributes.get("initial"), attributes["codec"]
    raw, disk = run.weights.dtype.itemsize * run.parameters.size * run.n_iterates, run.disk_bytes("weights/c")
    wanted = f" of {train['iterations'] + 1:,}" if run.status != "complete" and "iterations" in train else ""
    lines = [
        ("run", f"{run.path}, {run.status}"),
        ("problem", attributes.get("problem", "unknown") + _describe_options(attributes.get("problem_options", {}))),
        ("training", _describe_training(train) or _describe_origin(attributes)),
        *([("started", "from iterate {iterate:,} of {run}".format(**initial))] if initial else []),
        (
            "iterates",
            f"{run.n_iterates:,}{wanted} of {run.parameters.size:,} parameters in {len(run.parameters)} tensors",
        ),
        ("weights", f"{size(disk)} on disk, {size(raw)} raw ({disk / raw:.2f}, {codec})" if raw else "none yet"),
        *([("still", f"{count(run.n_unmoved, 'iteration')} without any motion")] if run.n_unmoved else []),
        ("store", f"{size(run.disk_bytes())} on disk"),
    ]
    for name in run.allocations:
        allocation = run.allocation(name)
        state = "complete" if allocation.complete else "unfinished"
        lines.append(
            (f"lca/{name}", f"{state}, {allocation.n_allocated:,} of {run.n_iterations:,} iterations allocated")
        )
    if attributes.get("command"):
        lines.append(("made by", attributes["command"]))
    return facts(lines)


def _describe_origin(attributes: Mapping[str, Any]) -> str:
    """Of a run that was not trained here."""
    imported = attributes.get("imported")
    return (
        f"imported from {len(imported)} checkpoints, a coarse trajectory" if imported else "by a loop of the user's own"
    )


def _describe_options(options: Mapping[str, Any]) -> str:
    """ " (layers 4, width 1.0)"."""
    return f" ({', '.join(f'{name} {value}' for name, value in options.items())})" if options else ""


def _describe_training(train: Mapping[str, Any]) -> str:
    """The options that say something, as resolved."""
    always = ("optimizer", "learning_rate", "momentum", "batch_size", "seed", "device")
    if_used = ("nesterov", "l2", "weight_decay", "freeze", "layers")
    words = [f"{name.replace('_', ' ')} {train[name]}" for name in always if train.get(name) is not None]
    for name in if_used:
        value = train.get(name)
        if value is True:
            words.append(name)
        elif isinstance(value, list):
            words += [f"{name.removesuffix('s')} {text}" for text in value]
        elif value:
            words.append(f"{name.replace('_', ' ')} {value}")
    if train.get("schedule") == "step":
        words.append(f"times {train['gamma']} at epochs {', '.join(f'{epoch:g}' for epoch in train['milestones'])}")
    elif train.get("schedule") == "cosine":
        words.append("cosine")
    return ", ".join(words)


def describe_problems(entries: "Sequence[Entry]", layers: bool = False) -> str:
    """A table of problems, the options that they have and, where asked for, the names of their layers."""
    from lca.zoo.presets import OPTIONS

    header = ["problem", "data", "train", "val", "test", "parameters", "GFLOP/pass", "recipe"]
    rows = [
        [
            e.problem,
            e.data,
            *(f"{n:,}" if n else "–" for n in (e.n_train, e.n_val, e.n_test, e.n_parameters)),
            f"{e.pass_gflop:,.3g}" if e.pass_gflop < 100 else f"{e.pass_gflop:,.0f}",
            _describe_recipe(e.recipe),
        ]
        for e in entries
    ]
    options = []
    for name, meaning in OPTIONS.items():
        having = [e for e in entries if name in e.options]
        by_default: dict[Option, list[str]] = {}
        for e in having:
            by_default.setdefault(e.options[name], []).append(e.problem)
        where = "; ".join(
            f"{value} in {'all' if len(names) == len(entries) else ', '.join(names)}"
            for value, names in by_default.items()
        )
        options += [(f"--set {name}=…", f"{meaning}; {where}")] if having else []
    names = [(f"layers of {e.problem}", ", ".join(e.layers)) for e in entries if layers]
    return table(header, rows, left=(0, 1, 7)) + "\n\n" + facts(options + names)


def _describe_recipe(recipe: "TrainConfig") -> str:
    parts = [f"{recipe.optimizer} {recipe.learning_rate:g}"]
    parts += [] if recipe.momentum is None else [f"momentum {recipe.momentum:g}"]
    length = count(recipe.epochs, "epoch") if recipe.epochs else count(recipe.iterations or 0, "iteration")
    return ", ".join([*parts, f"batch {recipe.batch_size:,}", length])


def describe_summary(summary: "Summary", path: Path | str) -> str:
    """What an allocation came to, and whether its bounds hold."""
    s = summary
    relative = 100 * abs(s.cumulative_residual / s.change) if s.change else float("nan")
    unmet = [f"{count(s.unconverged, 'iteration')} did not converge"] if s.unconverged else []
    unmet += [f"{count(s.not_finite, 'iteration')} not finite"] if s.not_finite else []
    unmet += [] if s.within_total else [f"the cumulative residual is not within {100 * s.total_tolerance:g} %"]
    unmet += [] if s.first_not_finite is None else [f"the first of them {s.first_not_finite}"]
    part = "" if s.examples == s.examples_in_split else f", {s.examples:,} of {s.examples_in_split:,} examples"
    change = f"L_T − L_0 = {s.change:.6f}" if s.complete else f"{s.change:.6f} over these iterations"
    lines = [
        ("allocated", f"{count(s.iterations, 'iteration')} of {path} into lca/{s.name}{part}"),
        ("loss", f"{s.loss_start:.6f} → {s.loss_end:.6f} nats ({change})"),
        *_describe_standard_error(s.standard_error),
        ("Σ A", f"{s.allocated:.6f} nats"),
        ("cumulative residual", f"{s.cumulative_residual:.2e} nats, {relative:.4f} % of the change"),
        ("largest residual", f"{s.largest_residual:.2e} nats in an iteration (tolerance {s.tolerance:g})"),
        ("gradients", f"{s.gradients_per_iteration:.2f} an iteration"),
        ("refined", f"{count(s.refined, 'iteration')}, {s.unconverged} did not converge"),
        *_describe_audit(s.audit),
        ("bounds", "hold" if s.within_bounds else "DO NOT HOLD: " + "; ".join(unmet)),
    ]
    return facts(lines)


def describe_forecast(checked: "Preflight") -> str:
    """What an allocation will cost."""
    free = "" if checked.disk_free_bytes is None else f" ({size(checked.disk_free_bytes)} free)"
    costs = (
        f"{count(checked.n_passes, 'pass')} of {checked.pass_s:.3g} s: {duration(checked.forecast_s)} if no iteration "
        f"has to be refined; up to {size(checked.disk_bytes)} on disk{free}, {size(checked.memory_bytes)} of memory"
    )
    return "\n".join([costs, *(f"note: {note}" for note in checked.notes)])


def describe_preflight(checked: "Preflight") -> str:
    """What a preflight found."""
    shapes = [[name, "×".join(map(str, shape)) or "1", state] for name, shape, state in checked.parameters]
    lines = [
        table(["parameter", "shape", "state"], shapes),
        "",
        *([table(["module", "kind", "mode"], checked.modules), ""] if checked.modules else []),
        facts(
            [
                ("loss", "the same function at each pass"),
                ("slope", f"{checked.slope:.6g} by the gradient, {checked.measured_slope:.6g} by central differences"),
                ("forecast", describe_forecast(checked)),
            ]
        ),
    ]
    return "\n".join(lines)


def _describe_standard_error(error: "dict[str, float] | None") -> list[tuple[str, str]]:
    """How far the loss over a subset may be from that over the whole split."""
    if not error:
        return []
    return [
        (
            "standard error",
            f"{error['start']:.6f} and {error['end']:.6f} nats by sampling, {error['change']:.6f} of the change",
        )
    ]


def _describe_audit(audit: "Audit | None") -> list[tuple[str, str]]:
    """The error of the parts, mean and 95 % confidence interval over the audited iterations."""
    if audit is None:
        return [("parts", "not audited")]
    from lca.audit import mean_with_confidence

    def interval(values: Sequence[float], scale: float, digits: int) -> str:
        mean, half = mean_with_confidence(values)
        return plus_minus(scale * mean, scale * half, digits)

    n = count(len(audit.iterations), "iteration")
    return [
        ("parts", f"off by {interval(audit.part_error, 100, 2)} % of Σ|A|, mean ± 95 % confidence of {n} audited"),
        ("its reference", f"off by {interval(audit.half_way, 100, 2)} % at half its subintervals"),
        ("signs", f"wrong for {interval(audit.sign_change, 100, 2)} % of the parameters"),
        ("helping", f"off by {interval(audit.helping_shift, 1, 3)} points of the percentage"),
    ]


def describe_report(report: "Report") -> str:
    """Its tables with mean ± standard deviation over the runs, its notes, and what it is based on."""
    from lca.analysis.iterations import described

    n_runs = len(report.iterations)
    lengths = {len(run.counted) for run in report.iterations}
    basis = " or ".join(f"{T:,}" for T in sorted(lengths)) + " iterations"
    left_out = described(report.iterations)
    last = "; ".join([f"{basis}, {count(n_runs, 'run')}", *([left_out] if left_out else [])])
    return "\n\n".join([*map(_describe_table, report.tables), "\n".join([*report.notes, last])])


def _describe_table(shown: "Table") -> str:
    from lca.analysis.statistics import mean_and_deviation

    cells = [
        [cell(column, float(mean), float(deviation)) for mean, deviation in zip(*statistics, strict=True)]
        for column in shown.columns.values()
        for statistics in [mean_and_deviation(column.values)]
    ]
    rows = [list(row) for row in zip(shown.rows, *cells, strict=True)]
    title = f"{shown.title}\n" if shown.title else ""
    return title + table([shown.heading, *shown.columns], rows)


def cell(column: "Column", mean: float, deviation: float) -> str:
    """A value of a report's table; a dash for what is not a number."""
    if mean != mean:
        return "–"
    return column.text(mean) if column.text else plus_minus(mean, deviation, column.digits)


def describe_verdict(verdict: "Verdict", path: Path | str) -> str:
    """What is wrong with a store, what is unusual, and what was done about it."""
    lines = [f"{finding.where}: {finding.what}" for finding in verdict.findings]
    lines += [f"note: {remark}" for remark in verdict.remarks]
    if not verdict.findings:
        lines.append(f"{path} is sound: every chunk was read, and agrees with its checksum")
    elif verdict.n_repaired:
        lines.append(
            f"marked as not done: {count(verdict.n_repaired, 'finding')}. "
            f"Redo iterates with `lca train … --resume`, allocations with `lca allocate {path}`."
        )
    elif any(finding.repair for finding in verdict.findings):
        lines.append("--repair marks what is damaged as not done")
    return "\n".join(lines)
