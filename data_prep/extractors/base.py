"""The interface of extractors: from the files of an archive to arrays."""

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
"""First bytes of a file that git-lfs has not fetched."""


class BrokenItem(Exception):
    """An item whose files can't be used; the message describes the fault."""


@dataclass(frozen=True)
class Items:
    """All items of an archive, in the order of their names, before any file is read.

    Attributes
    ----------
    names
        Unique names.
    labels
        Class of each item, from 0.
    classes
        Names of the labels.
    payload
        What `Extractor.extract` needs of each item, small and plain.
    clients
        Natural client of each item, or None.
    splits
        The archive's split of each item, 0 train, 1 test, 2 val, or None.
    groups
        Group of each item, whose items no split divides, or None.
    skipped
        Items that are broken according to the archive's tables, and why.
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

    Its factory takes the archive's folder, and its options as keywords, of which
    ``skip_broken`` must be one. An attribute ``added`` lists options that came later,
    each with the value that leaves features unchanged, so that extractions which were
    begun before can continue.
    """

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        ...

    @property
    def inputs(self) -> Mapping[str, tuple[int | None, int]]:
        """Maximum number of steps (`None` for a vector) and width of each input."""
        ...

    def items(self) -> Items:
        """Read the archive's tables. Raises `DataError` where they are not usable."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what else the features depend on, such as hashes of weights."""
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
    """Refuse a file that git-lfs has not fetched; one that is absent is accepted.

    Raises
    ------
    DataError
        If it is a pointer of git-lfs, a pipe or a device.
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
