"""Loss Change Allocation: which parameters learned, and when?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lca import analysis as analysis
    from lca import figures as figures
    from lca.allocation import allocate as allocate
    from lca.allocation import check as check
    from lca.config import AllocateConfig as AllocateConfig
    from lca.errors import LCAError as LCAError
    from lca.problem import Problem as Problem
    from lca.problem import load as load
    from lca.recorder import Recorder as Recorder
    from lca.state_dicts import import_checkpoints as import_checkpoints
    from lca.store import open_run
    from lca.training import TrainConfig as TrainConfig
    from lca.training import train as train

    open = open_run

# Public name -> where it lives. Looked up on first use, so that `lca --help` need not wait for torch.
_HOMES = {
    "AllocateConfig": "lca.config:AllocateConfig",
    "LCAError": "lca.errors:LCAError",
    "Problem": "lca.problem:Problem",
    "Recorder": "lca.recorder:Recorder",
    "TrainConfig": "lca.training:TrainConfig",
    "allocate": "lca.allocation:allocate",
    "analysis": "lca.analysis",
    "check": "lca.allocation:check",
    "figures": "lca.figures",
    "import_checkpoints": "lca.state_dicts:import_checkpoints",
    "load": "lca.problem:load",
    "open": "lca.store:open_run",
    "train": "lca.training:train",
}

__all__ = sorted(_HOMES)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lca' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    home = import_module(module)
    return getattr(home, attribute) if attribute else home
