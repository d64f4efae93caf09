"""Questions to runs, one file each: runs go in, and a frozen dataclass of arrays and numbers comes out.

A question takes a path, an lca.Run, or a sequence of them; repr() of its result gives its tables. Large arrays are
read piece by piece, so memory is bounded whatever K and T are. Iterations that are not allocated, did not converge or
are not finite are left out and counted, never read as 0.
"""

from lca.analysis._compare import Comparison as Comparison
from lca.analysis._compare import compare as compare
from lca.analysis._curves import Curves as Curves
from lca.analysis._curves import curves as curves
from lca.analysis._error import Errors as Errors
from lca.analysis._error import LossCurve as LossCurve
from lca.analysis._error import error as error
from lca.analysis._error import loss_curve as loss_curve
from lca.analysis._everything import Combined as Combined
from lca.analysis._everything import Everything as Everything
from lca.analysis._everything import combine as combine
from lca.analysis._everything import everything as everything
from lca.analysis._helping import Helping as Helping
from lca.analysis._helping import Shares as Shares
from lca.analysis._helping import helping as helping
from lca.analysis._layers import Layers as Layers
from lca.analysis._layers import layers as layers
from lca.analysis._neurons import Neurons as Neurons
from lca.analysis._neurons import neurons as neurons
from lca.analysis._oscillation import Changes as Changes
from lca.analysis._oscillation import Oscillation as Oscillation
from lca.analysis._oscillation import oscillation as oscillation
from lca.analysis._overfit import Overfit as Overfit
from lca.analysis._overfit import overfit as overfit
from lca.analysis._prune import Evaluate as Evaluate
from lca.analysis._prune import Measured as Measured
from lca.analysis._prune import Pruned as Pruned
from lca.analysis._prune import prune as prune
from lca.analysis._subset import Agreement as Agreement
from lca.analysis._subset import Subset as Subset
from lca.analysis._subset import subset as subset
from lca.analysis._synchrony import SHIFTS as SHIFTS
from lca.analysis._synchrony import Series as Series
from lca.analysis._synchrony import Synchrony as Synchrony
from lca.analysis._synchrony import synchrony as synchrony
from lca.analysis._tails import Tails as Tails
from lca.analysis._tails import tails as tails
from lca.analysis._trend import Trend as Trend
from lca.analysis._trend import trend as trend
from lca.analysis.answer import Answer as Answer
from lca.analysis.answer import Column as Column
from lca.analysis.answer import Table as Table
from lca.analysis.iterations import Iterations as Iterations
from lca.analysis.magnitudes import Magnitudes as Magnitudes
from lca.analysis.question import Result as Result
from lca.analysis.question import Results as Results

_QUESTIONS = (
    *("compare", "curves", "error", "everything", "helping", "layers", "loss_curve", "neurons", "oscillation"),
    *("overfit", "prune", "subset", "synchrony", "tails", "trend"),
)


def __dir__() -> list[str]:
    return sorted(_QUESTIONS)
