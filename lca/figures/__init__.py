"""Figures, one file each: the result of an analysis goes in, a matplotlib Figure comes out, which `save` writes.

    figure = lca.figures.helping(lca.analysis.helping(run))
    lca.figures.save(figure, "helping.png")

A Look says how to draw: title, colours, which layers and iterations, on a screen or in a paper. These are the functions
that `lca plot` calls. A film and a report are written as they are made.
"""

from lca.figures.animation import Film as Film
from lca.figures.animation import animation as animation
from lca.figures.cumulative import cumulative as cumulative
from lca.figures.curves import curves as curves
from lca.figures.distribution import distribution as distribution
from lca.figures.error import error as error
from lca.figures.frame import frame as frame
from lca.figures.helping import helping as helping
from lca.figures.helping_by_layer import helping_by_layer as helping_by_layer
from lca.figures.helping_by_parameter import helping_by_parameter as helping_by_parameter
from lca.figures.layers import layers as layers
from lca.figures.loss import loss as loss
from lca.figures.neurons import neurons as neurons
from lca.figures.oscillation import oscillation as oscillation
from lca.figures.overfit import overfit as overfit
from lca.figures.peaks import peaks as peaks
from lca.figures.prune import prune as prune
from lca.figures.report import report as report
from lca.figures.style import COLOURS as COLOURS
from lca.figures.style import Colours as Colours
from lca.figures.style import Look as Look
from lca.figures.style import heading as heading
from lca.figures.style import save as save
from lca.figures.subset import subset as subset
from lca.figures.trend import trend as trend
