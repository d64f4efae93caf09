"""Questions to an allocation, one file each: a run goes in, a frozen dataclass of arrays and numbers comes out.

What is large is read piece by piece, so that memory is bounded whatever K and T. Iterations that are not allocated, did
not converge or are not finite are left out and counted, never read as 0.
"""

from lca.analysis._compare import Comparison as Comparison
from lca.analysis._compare import compare as compare
from lca.analysis._curves import Curves as Curves
from lca.analysis._curves import curves as curves
from lca.analysis._error import Errors as Errors
from lca.analysis._error import LossCurve as LossCurve
from lca.analysis._error import error as error
from lca.analysis._error import loss_curve as loss_curve
from lca.analysis._everything import Everything as Everything
from lca.analysis._everything import everything as everything
from lca.analysis._helping import Helping as Helping
from lca.analysis._helping import helping as helping
from lca.analysis._layers import Layers as Layers
from lca.analysis._layers import layers as layers
from lca.analysis._neurons import Neurons as Neurons
from lca.analysis._neurons import neurons as neurons
from lca.analysis._oscillation import Oscillation as Oscillation
from lca.analysis._oscillation import oscillation as oscillation
from lca.analysis._overfit import Overfit as Overfit
from lca.analysis._overfit import overfit as overfit
from lca.analysis._prune import Pruned as Pruned
from lca.analysis._prune import prune as prune
from lca.analysis._subset import Subset as Subset
from lca.analysis._subset import subset as subset
from lca.analysis._synchrony import Synchrony as Synchrony
from lca.analysis._synchrony import synchrony as synchrony
from lca.analysis._tails import Tails as Tails
from lca.analysis._tails import tails as tails
from lca.analysis._trend import Trend as Trend
from lca.analysis._trend import trend as trend
