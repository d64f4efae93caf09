"""Questions about allocated runs.

Each question is a function that takes a path or an ``lca.Run`` and returns a frozen dataclass of arrays and numbers.
For a sequence of runs, it returns ``Results``, a tuple with one result per run. (``compare`` and ``trend`` always take
several runs and return a single result.) The ``repr()`` of a result or of ``Results`` shows tables, notebooks show them
as HTML, and ``to_frame()`` converts a table to a ``pandas.DataFrame``. LCA is in units of the loss (nats for
cross-entropy). LCA below 0 lowers the loss (helps), and LCA above 0 raises it (hurts).

Large arrays are read piece by piece, so memory use is bounded regardless of the number of parameters K and iterations
T. Iterations that are not allocated or not finite are excluded and reported. They are never read as 0.
"""

from lca.analysis._compare import Comparison, compare
from lca.analysis._curves import Curves, curves
from lca.analysis._error import Errors, LossCurve, error, loss_curve
from lca.analysis._everything import Combined, Everything, combine, everything
from lca.analysis._helping import Helping, Shares, helping
from lca.analysis._layers import Layers, layers
from lca.analysis._neurons import Neurons, neurons
from lca.analysis._oscillation import Changes, Oscillation, oscillation
from lca.analysis._overfit import Overfit, overfit
from lca.analysis._prune import Evaluate, Measured, Pruned, prune
from lca.analysis._subset import Agreement, Subset, subset
from lca.analysis._synchrony import SHIFTS, Series, Synchrony, synchrony
from lca.analysis._tails import Tails, Weibull, tails
from lca.analysis._trend import Trend, trend
from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import Iterations
from lca.analysis.magnitudes import Magnitudes
from lca.analysis.question import Result, Results

_QUESTIONS = (
    *("compare", "curves", "error", "everything", "helping", "layers", "loss_curve", "neurons", "oscillation"),
    *("overfit", "prune", "subset", "synchrony", "tails", "trend"),
)

__all__ = [
    "SHIFTS",
    "Agreement",
    "Answer",
    "Changes",
    "Column",
    "Combined",
    "Comparison",
    "Curves",
    "Errors",
    "Evaluate",
    "Everything",
    "Helping",
    "Iterations",
    "Layers",
    "LossCurve",
    "Magnitudes",
    "Measured",
    "Neurons",
    "Oscillation",
    "Overfit",
    "Pruned",
    "Result",
    "Results",
    "Series",
    "Shares",
    "Subset",
    "Synchrony",
    "Table",
    "Tails",
    "Trend",
    "Weibull",
    "combine",
    "compare",
    "curves",
    "error",
    "everything",
    "helping",
    "layers",
    "loss_curve",
    "neurons",
    "oscillation",
    "overfit",
    "prune",
    "subset",
    "synchrony",
    "tails",
    "trend",
]


def __dir__() -> list[str]:
    return sorted(_QUESTIONS)
