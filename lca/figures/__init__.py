"""Figures of runs. Each function takes runs, or results of their analysis, and returns a matplotlib figure.

::

    figure = lca.figures.helping("run.zarr")
    lca.figures.save(figure, "helping.png")

A ``Look`` sets the title, the colors, the layers and iterations to show, and the size for a screen or a paper.
``animation`` and ``report`` write a file instead of returning a figure.
"""

from lca.figures._animation import Film as Film
from lca.figures._animation import animation as animation
from lca.figures._cumulative import cumulative as cumulative
from lca.figures._curves import curves as curves
from lca.figures._distribution import distribution as distribution
from lca.figures._error import error as error
from lca.figures._frame import frame as frame
from lca.figures._helping import helping as helping
from lca.figures._helping_by_layer import helping_by_layer as helping_by_layer
from lca.figures._helping_by_parameter import helping_by_parameter as helping_by_parameter
from lca.figures._layers import layers as layers
from lca.figures._loss import loss as loss
from lca.figures._neurons import neurons as neurons
from lca.figures._oscillation import oscillation as oscillation
from lca.figures._overfit import overfit as overfit
from lca.figures._peaks import peaks as peaks
from lca.figures._prune import prune as prune
from lca.figures._report import report as report
from lca.figures._subset import subset as subset
from lca.figures._trend import trend as trend
from lca.figures.asking import heading as heading
from lca.figures.style import Look as Look
from lca.figures.style import save as save

_PUBLIC = sorted(name for name, value in globals().items() if callable(value) and not name.startswith("_"))


def __dir__() -> list[str]:
    return _PUBLIC
