"""The LCA of every parameter in one iteration, each tensor as a matrix.     [arXiv 1909.01440, figure 2]"""

from math import ceil

import numpy as np
from matplotlib.figure import Figure

from lca.analysis.question import RunLike
from lca.errors import Argument, UsageError
from lca.figures.asking import open_one
from lca.figures.axes import SIGNS, escape_text, make_scale
from lca.figures.matrices import EMPTY, make_matrices
from lca.figures.style import DEFAULT, Look
from lca.store.chunks import read_part, verify_remedy

COLUMNS = 4  # largest number of tensors side by side


def frame(runs: RunLike, look: Look = DEFAULT, *, name: str = "train", iteration: int = 0) -> Figure:
    """Draw the LCA of every parameter in one iteration, each tensor as a matrix.

    White is 0. Parameters that help (LCA below 0) and parameters that hurt (above 0) have different colors, as in
    ``animation``.

    Args:
        runs: A run, as a path or a ``Run``.
        look: Title, colors, style and layers to show.
        name: Name of the allocation.
        iteration: Iteration to draw, counted from 0.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is not a single run, or the iteration is not allocated.

    Example:
        >>> lca.figures.frame("run.zarr", iteration=20)
    """
    run, look = open_one(runs, look, name)
    allocation, table = run.allocation(name), run.parameters
    if not 0 <= iteration < run.n_iterations or not np.asarray(allocation.status[iteration]).any():
        raise UsageError(
            f"iteration {iteration} is not allocated in {allocation.path}",
            remedy=("Pass an allocated ", Argument("iteration"), f" from 0 to {run.n_iterations - 1:,}."),
        )
    where = slice(None), iteration
    lca = read_part(allocation.lca, where, f"{allocation.path}/lca", verify_remedy(run.path)).astype(np.float64)
    shown = make_matrices(table, [table.layers[i] for i in look.choose_layers(table.layers)])
    if not shown:
        raise UsageError("layers", expected="a layer with parameters", found="layers whose tensors are all empty")
    norm = make_scale(lca)
    columns = min(len(shown), COLUMNS)
    rows = ceil(len(shown) / columns)
    with look.figure(7.2, max(3.4, 0.9 + 1.7 * rows)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, matrix in zip(panels, shown, strict=False):
            values = np.ma.masked_where(matrix.places == EMPTY, lca[matrix.places])
            picture = axes.imshow(values, cmap=look.palette.map, norm=norm, aspect="auto", interpolation="nearest")
            axes.set_title(escape_text(matrix.name), fontsize="small")
            axes.set_xticks([])
            axes.set_yticks([])
        for axes in panels[len(shown) :]:
            axes.remove()
        around, label = panels[: len(shown)].tolist(), f"LCA ({escape_text(allocation.attributes['unit'])})\n{SIGNS}"
        figure.colorbar(picture, ax=around, extend="both", label=label, fraction=0.04)
        title = f"{look.title or ''}, iteration {iteration:,}".removeprefix(", ")
        figure.suptitle(escape_text(title), x=0.01, ha="left", fontsize="medium")
    return figure
