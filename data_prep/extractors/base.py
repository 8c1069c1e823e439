"""What an extractor is: from the files of an archive to arrays, item by item."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.regular_files import regular
from fedapm_mpi.errors import DataError
from fedapm_mpi.registry import Registry

POINTER = b"version https://git-lfs"


class BrokenItem(Exception):
    """An item whose files can't be used; the text says what is wrong with them."""


@dataclass(frozen=True)
class Items:
    """All items of an archive, in the order of their names, before any file is read.

    Attributes
    ----------
    names
        Unique names.
    labels
        Of each item, from 0.
    classes
        Names of the labels.
    payload
        Of each item what `Extractor.extract` needs to know, small and plain.
    clients
        Natural client of each item, or None.
    splits
        The archive's own split of each item, 0 train, 1 test, 2 val, or None.
    groups
        What must not be divided by a split, or None.
    skipped
        Items that the archive's tables already show to be broken, and why.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    payload: tuple[Any, ...]
    clients: tuple[str, ...] | None = None
    splits: tuple[int, ...] | None = None
    groups: tuple[str, ...] | None = None
    skipped: Mapping[str, str] | None = None


class Extractor(Protocol):
    """Makes features of one archive.

    Its factory gets the archive's folder, and its options as keywords, of which
    ``skip_broken`` must be one. Where it has an attribute ``added``, this names options
    that came later, each with the value that leaves features as they were before:
    folders of features that were begun before are continued.
    """

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        ...

    @property
    def inputs(self) -> Mapping[str, tuple[int | None, int]]:
        """Of each input the most steps, and the numbers of a step; a vector's are one.

        No steps (`None`) stand for a vector.
        """
        ...

    def items(self) -> Items:
        """Read the archive's tables. Raises `DataError` where they are not usable."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what decides the features beside the files: say, weights' hashes."""
        ...

    def extract(self, payload: Any) -> dict[str, NDArray[np.float32]]:
        """Return an item's features by input, (steps, numbers) or (numbers,).

        Raises `BrokenItem` if its files can't be used.
        """
        ...


extractors: Registry[Callable[..., Extractor]] = Registry(
    "extractor", "data_prep.extractors"
)


def needs(error: ImportError, *, library: str, extra: str) -> DataError:
    """Return the error to raise where a library is not installed."""
    return DataError(
        f"this needs {library} ({error}); install it: pip install 'fedapm-mpi[{extra}]'"
    )


def check_contents(path: Path) -> None:
    """Refuse a file that git-lfs has not fetched, if it is there at all.

    Raises
    ------
    DataError
        If it is one of the pointers that lie in a clone instead, or a pipe or device.
    """
    try:
        with regular(path).open("rb") as file:
            pointer = file.read(len(POINTER)) == POINTER
    except OSError:
        return
    if pointer:
        msg = (
            f"{path} is a pointer of git-lfs, not the file itself; run 'git lfs pull' "
            "in the clone"
        )
        raise DataError(msg)
