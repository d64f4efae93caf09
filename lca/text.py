"""Results as text: pure functions from values to strings."""

from collections.abc import Collection, Sequence


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


def pluralize(n: int, noun: str) -> str:
    """ "1 iteration", "2 iterations", "3 passes"."""
    return f"{n:,} {noun}" + ("" if n == 1 else "es" if noun.endswith("s") else "s")
