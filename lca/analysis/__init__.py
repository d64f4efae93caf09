"""Questions to an allocation, one file each: a run goes in, a frozen dataclass of arrays and numbers comes out.

What is large is read piece by piece, so that memory is bounded whatever K and T. Iterations that are not allocated, did
not converge or are not finite are left out and counted, never read as 0.
"""

from lca.analysis.compare import Comparison as Comparison
from lca.analysis.compare import compare as compare
from lca.analysis.curves import Curves as Curves
from lca.analysis.curves import curves as curves
from lca.analysis.error import Errors as Errors
from lca.analysis.error import LossCurve as LossCurve
from lca.analysis.error import error as error
from lca.analysis.error import loss_curve as loss_curve
from lca.analysis.everything import Everything as Everything
from lca.analysis.everything import everything as everything
from lca.analysis.helping import Helping as Helping
from lca.analysis.helping import helping as helping
from lca.analysis.layers import Layers as Layers
from lca.analysis.layers import layers as layers
from lca.analysis.neurons import Neurons as Neurons
from lca.analysis.neurons import neurons as neurons
from lca.analysis.oscillation import Oscillation as Oscillation
from lca.analysis.oscillation import oscillation as oscillation
from lca.analysis.overfit import Overfit as Overfit
from lca.analysis.overfit import overfit as overfit
from lca.analysis.prune import Pruned as Pruned
from lca.analysis.prune import prune as prune
from lca.analysis.subset import Subset as Subset
from lca.analysis.subset import subset as subset
from lca.analysis.synchrony import Synchrony as Synchrony
from lca.analysis.synchrony import synchrony as synchrony
from lca.analysis.tails import Tails as Tails
from lca.analysis.tails import tails as tails
from lca.analysis.trend import Trend as Trend
from lca.analysis.trend import trend as trend
