"""The interface of sources: all samples of a data set, and notes on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.regular_files import regular
from fedapm_mpi.data.table import Table
from fedapm_mpi.errors import DataError
from fedapm_mpi.registry import Registry


@dataclass(frozen=True)
class Source:
    """All N samples of a data set as its owners publish it.

    Attributes
    ----------
    table
        Inputs, labels and class names.
    files
        The files that were read; their checksums go into the manifest.
    ids, id_names
        ``(N,)`` natural client of each sample, from 0, and the clients' names; None
        if the data names no clients.
    groups
        ``(N,)`` group of each sample, or None; a group is never split.
    split
        ``(N,)`` the source's own split, 0 train, 1 test, 2 val; None if it has none.
    default_split
        Split that is used by default; if None, the source's own if it has one.
    skipped
        Names of broken samples that were left out on request.
    shifts
        Shifts that are applied before those of the user: each with name and options.
    fit
        Called with the table and its training rows before shifts and anything else
        that reads inputs; returns the table with inputs that were fitted on these rows.
    arrange
        Called after `fit` with the numbers of the rows in the order in which they are
        written, so that the source can make reading in this order fast.
    describe
        Called with that table; returns a note on what was fitted.
    warnings
        Sentences on possible mistakes, such as files that were not read.
    client_hint
        Without ids: how the source can name clients.
    """

    table: Table
    files: tuple[Path, ...]
    ids: NDArray[np.int64] | None = None
    id_names: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None
    split: NDArray[np.int8] | None = None
    default_split: Literal["random", "own"] | None = None
    skipped: tuple[str, ...] = ()
    shifts: tuple[dict[str, Any], ...] = ()
    fit: Callable[[Table, NDArray[np.int64]], Table] | None = None
    arrange: Callable[[NDArray[np.int64]], None] | None = None
    describe: Callable[[Table], str] | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    client_hint: str = ""


sources: Registry[Callable[..., Source]] = Registry("source", "data_prep.sources")


def find(path: Path, names: tuple[str, ...], what: str) -> Path:
    """Return the first of `names` found at `path`, which may be the file itself.

    Raises
    ------
    DataError
        If there is none.
    """
    if regular(path).is_file():
        return path
    for name in names:
        regular(path / name)
        if (path / name).is_file():
            return path / name
    msg = f"{path} is not {what} and holds none ({' or '.join(names)})"
    raise DataError(msg)


def window_scores(
    windows: NDArray[Any], lengths: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    """Standardise each window and axis over time: (x - mean) / (std + 1e-5).

    Parameters
    ----------
    windows
        ``(n, T, ...)``.
    lengths
        ``(n,)`` true lengths; values beyond do not count and become 0.
    """
    x: NDArray[np.float64] = windows.astype(np.float64)
    inside = np.ones((len(x), x.shape[1]), bool)
    if lengths is not None:
        inside = np.arange(x.shape[1]) < lengths[:, None]
    # Axes after time, however many, are standardised one by one.
    inside = inside.reshape(inside.shape + (1,) * (x.ndim - 2))
    n = inside.sum(axis=1, keepdims=True)
    mean = np.where(inside, x, 0).sum(axis=1, keepdims=True) / n
    centred = np.where(inside, x - mean, 0)
    std = np.sqrt((centred**2).sum(axis=1, keepdims=True) / n)
    scores: NDArray[np.float32] = (centred / (std + 1e-5)).astype(np.float32)
    return scores


def window_statistics(windows: NDArray[Any]) -> NDArray[np.float32]:
    """Return seven statistics of each axis of windows over time.

    Mean, standard deviation, minimum, maximum, standard deviation and mean magnitude of
    the steps from one time to the next, median.

    Parameters
    ----------
    windows
        ``(n, T, axes)``, all of the same length.

    Returns
    -------
    NDArray
        ``(n, 7 axes)``, statistic by statistic.
    """
    x = windows.astype(np.float64)
    d = np.diff(x, axis=1)
    parts = [x.mean(1), x.std(1), x.min(1), x.max(1), d.std(1), np.abs(d).mean(1)]
    found: NDArray[np.float64] = np.concatenate([*parts, np.median(x, 1)], axis=1)
    return found.astype(np.float32)
