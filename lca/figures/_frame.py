"""The LCA of every parameter in one iteration, each layer as a matrix.     [arXiv 1909.01440, figure 2]"""

from math import ceil

import numpy as np
from matplotlib.figure import Figure

from lca.errors import UsageError
from lca.figures.matrices import EMPTY, matrices
from lca.figures.style import DEFAULT, Look, plain, scale_of
from lca.store.run import Run

COLUMNS = 4


def frame(run: Run, iteration: int = 0, look: Look = DEFAULT, name: str = "train") -> Figure:
    """name: of the allocation. UsageError if it has not this iteration."""
    allocation, table = run.allocation(name), run.parameters
    if not 0 <= iteration < run.n_iterations or not np.asarray(allocation.status[iteration]).any():
        raise UsageError(
            f"iteration {iteration} is not allocated in {allocation.path}; give one of its {run.n_iterations:,} with "
            f"--iteration, from 0 to {run.n_iterations - 1:,}."
        )
    lca = np.asarray(allocation.lca[:, iteration], np.float64)
    shown = matrices(table, [table.layers[i] for i in look.chosen(table.layers)])
    norm = scale_of(lca)
    rows = ceil(len(shown) / COLUMNS)
    with look.figure(7.2, 0.9 + 1.7 * rows) as figure:
        panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, matrix in zip(panels, shown, strict=False):
            values = np.ma.masked_where(matrix.places == EMPTY, lca[matrix.places])
            picture = axes.imshow(values, cmap=look.colours.map, norm=norm, aspect="auto", interpolation="nearest")
            axes.set_title(plain(matrix.name), fontsize="small")
            axes.set_xticks([])
            axes.set_yticks([])
        for axes in panels[len(shown) :]:
            axes.remove()
        figure.colorbar(picture, ax=panels[: len(shown)].tolist(), extend="both", label="LCA (nats)", fraction=0.04)
        figure.suptitle(
            plain(f"{look.title}, iteration {iteration:,}".removeprefix(", ")), x=0.01, ha="left", fontsize="medium"
        )
    return figure
