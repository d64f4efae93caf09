"""Loss Change Allocation: which parameters learned, and when?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lca import analysis as analysis
    from lca import figures as figures
    from lca.allocation.allocate import allocate as allocate
    from lca.allocation.allocate import check as check
    from lca.allocation.config import AllocateConfig as AllocateConfig
    from lca.allocation.evaluation import Evaluator as Evaluator
    from lca.allocation.evaluation import Measurement as Measurement
    from lca.allocation.planning import forecast as forecast
    from lca.allocation.preflight import Preflight as Preflight
    from lca.errors import Argument as Argument
    from lca.errors import Call as Call
    from lca.errors import DamagedError as DamagedError
    from lca.errors import Interrupted as Interrupted
    from lca.errors import LCAError as LCAError
    from lca.errors import UsageError as UsageError
    from lca.problem.loading import load as load
    from lca.problem.problem import Problem as Problem
    from lca.problem.streaming import StreamedDataset as StreamedDataset
    from lca.recording.checkpoints import import_checkpoints as import_checkpoints
    from lca.recording.recorder import Recorder as Recorder
    from lca.store.allocation import Allocation as Allocation
    from lca.store.audit import Audit as Audit
    from lca.store.audit import Interval as Interval
    from lca.store.audit import Stratum as Stratum
    from lca.store.findings import Finding as Finding
    from lca.store.parameters import Parameter as Parameter
    from lca.store.parameters import ParameterTable as ParameterTable
    from lca.store.run import Run as Run
    from lca.store.run import open_run
    from lca.store.schema import Status as Status
    from lca.store.summary import Summary as Summary
    from lca.store.summary import summarize as summarize
    from lca.store.verify import Verdict as Verdict
    from lca.store.verify import verify as verify
    from lca.training.config import TrainConfig as TrainConfig
    from lca.training.loop import train as train

    open = open_run
    __version__: str

# The module that defines each public name. It is imported on first use, so that reading a store does not import torch.
_HOMES = {
    "AllocateConfig": "lca.allocation.config",
    "Allocation": "lca.store.allocation",
    "Argument": "lca.errors",
    "Audit": "lca.store.audit",
    "Call": "lca.errors",
    "DamagedError": "lca.errors",
    "Evaluator": "lca.allocation.evaluation",
    "Finding": "lca.store.findings",
    "Interrupted": "lca.errors",
    "Interval": "lca.store.audit",
    "LCAError": "lca.errors",
    "Measurement": "lca.allocation.evaluation",
    "Parameter": "lca.store.parameters",
    "ParameterTable": "lca.store.parameters",
    "Preflight": "lca.allocation.preflight",
    "Problem": "lca.problem.problem",
    "Recorder": "lca.recording.recorder",
    "Run": "lca.store.run",
    "Status": "lca.store.schema",
    "Stratum": "lca.store.audit",
    "StreamedDataset": "lca.problem.streaming",
    "Summary": "lca.store.summary",
    "TrainConfig": "lca.training.config",
    "UsageError": "lca.errors",
    "Verdict": "lca.store.verify",
    "allocate": "lca.allocation.allocate",
    "check": "lca.allocation.allocate",
    "forecast": "lca.allocation.planning",
    "import_checkpoints": "lca.recording.checkpoints",
    "load": "lca.problem.loading",
    "open": "lca.store.run:open_run",
    "summarize": "lca.store.summary",
    "train": "lca.training.loop",
    "verify": "lca.store.verify",
}
_PACKAGES = ("analysis", "figures")

__all__ = sorted([*_HOMES, *_PACKAGES, "__version__"])


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"lca.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("loss-change-allocation")
    if name not in _HOMES:
        raise AttributeError(f"module 'lca' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute or name)
