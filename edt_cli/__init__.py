"""edt: LLM-enhanced cross-domain sequential recommendation in the terminal, and from Python.

    import edt_cli as edt

    run = edt.train("demo", edt.settings("sasrec", "sasrec-ce"))
    run.evaluate()                                # a Polars frame
    run.recommend(histories={"new": ["D10214"]})

What stands in `__all__` is public; the rest may change. A name is imported when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edt_cli.workspace.version import __version__

# Read once, before the first tensor. Training makes and frees the same large blocks at each step: in pages of 4 KiB
# a third of its time goes into having them cleared. And a product is compiled for each shape that comes: of
# hundreds that are kept, few are met again.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
# What torch has no kernel for on Apple's GPUs is computed on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

if TYPE_CHECKING:
    from edt_cli.api.session import TrainedRun, load_data, results, runs, settings, train
    from edt_cli.config import Section, Settings, UserError
    from edt_cli.data.dataset import Dataset, Sequences
    from edt_cli.models.batch import Batch
    from edt_cli.models.inputs import ModelInputs
    from edt_cli.models.layers import Dropout, Linear
    from edt_cli.models.phases import Phase
    from edt_cli.models.positions import Objective, Positions
    from edt_cli.models.scorers import InnerProduct, Recommender, Scorer
    from edt_cli.models.sequential import NextItemPhase, SequentialModel
    from edt_cli.models.side_score import SideScore
    from edt_cli.models.systems import System

_HOME = {
    "api.session": ("TrainedRun", "load_data", "results", "runs", "settings", "train"),
    "config": ("Section", "Settings", "UserError"),
    "data.dataset": ("Dataset", "Sequences"),
    "models.batch": ("Batch",),
    "models.inputs": ("ModelInputs",),
    "models.layers": ("Dropout", "Linear"),
    "models.phases": ("Phase",),
    "models.positions": ("Objective", "Positions"),
    "models.scorers": ("InnerProduct", "Recommender", "Scorer"),
    "models.sequential": ("NextItemPhase", "SequentialModel"),
    "models.side_score": ("SideScore",),
    "models.systems": ("System",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Batch",
    "Dataset",
    "Dropout",
    "InnerProduct",
    "Linear",
    "ModelInputs",
    "NextItemPhase",
    "Objective",
    "Phase",
    "Positions",
    "Recommender",
    "Scorer",
    "Section",
    "Sequences",
    "SequentialModel",
    "Settings",
    "SideScore",
    "System",
    "TrainedRun",
    "UserError",
    "__version__",
    "load_data",
    "results",
    "runs",
    "settings",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
