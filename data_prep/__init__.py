"""Turn raw data sets into data set directories: sources, partitioners, shifts.

A program of one's own writes a directory by `write_samples`, sample by sample, by
`write_frame` from a data frame, or by `write_torch_dataset` from PyTorch data sets.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.frames import write_frame
    from data_prep.torch_datasets import write_torch_dataset
    from data_prep.writer import Sample, write_samples

__all__ = ["Sample", "write_frame", "write_samples", "write_torch_dataset"]

_MODULES = {
    "Sample": "writer",
    "write_frame": "frames",
    "write_samples": "writer",
    "write_torch_dataset": "torch_datasets",
}


def __getattr__(name: str) -> Any:
    # Only on use, so that `fedapm prepare --list` does not load what writing needs.
    if name in __all__:
        return vars(importlib.import_module(f"data_prep.{_MODULES[name]}"))[name]
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
