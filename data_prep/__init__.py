"""Turn raw data sets into data set directories: sources, partitioners, shifts.

A program of one's own writes a directory by `write_samples`, sample by sample.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.writer import Sample, write_samples

__all__ = ["Sample", "write_samples"]


def __getattr__(name: str) -> Any:
    # Only on use, so that `fedapm prepare --list` does not load what writing needs.
    if name in __all__:
        from data_prep import writer

        return vars(writer)[name]
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
