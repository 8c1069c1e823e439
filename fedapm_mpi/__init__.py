"""FedAPM over MPI: personalized federated learning by ADMM.

Importing the package loads no large library. These names are imported from
`fedapm_mpi.api` when they are used first:

train
    Train an experiment and leave a run directory.
load_config
    Read and check a configuration.
load_run
    Read a run directory.
load_client_model
    Return a client's trained model.
use_portable_kernels
    Choose the instructions that ``kernels: portable`` needs, ahead of other imports.
Config, Run, TrainedRun
    The classes of what these take and return.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedapm_mpi.utils import early_interrupt, moved_modules
from fedapm_mpi.utils.kernels import use_portable as use_portable_kernels

if TYPE_CHECKING:
    from fedapm_mpi.api import (
        Config,
        Run,
        TrainedRun,
        load_client_model,
        load_config,
        load_run,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "Config",
    "Run",
    "TrainedRun",
    "__version__",
    "load_client_model",
    "load_config",
    "load_run",
    "train",
    "use_portable_kernels",
]

early_interrupt.watch()
moved_modules.install()


def __getattr__(name: str) -> Any:
    """Import a public name when it is used first; see PEP 562."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module("fedapm_mpi.api"), name)


def __dir__() -> list[str]:
    """Return the public names too, before they are imported."""
    return sorted({*globals(), *__all__})
