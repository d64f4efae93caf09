"""Questions to an allocation, one file each: a run goes in, a frozen dataclass of arrays and numbers comes out."""

from lca.analysis.helping import Helping as Helping
from lca.analysis.helping import helping as helping
from lca.analysis.layers import Layers as Layers
from lca.analysis.layers import layers as layers
