"""What a shift is given and what it gives back.

A partitioner decides who holds a sample; a shift changes samples by who holds them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.table import Table
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import Registry, did_you_mean


class Clients(NamedTuple):
    """Who holds the N samples of a table, each with exactly one of m clients."""

    number: int
    """m."""

    owner: NDArray[np.int64]
    """(N,) the client of each sample."""

    training: NDArray[np.bool_]
    """(N,) whether the sample is for training."""

    seed: int
    """Of the preparation; a shift draws from streams that it addresses."""


class Shifted(NamedTuple):
    """A table with some samples changed."""

    table: Table

    notes: Sequence[str]
    """(m,) what was done to each client, for its name; empty where nothing was."""


shifts: Registry[Callable[..., Shifted]] = Registry("shift", "data_prep.shifts")


def strengths(m: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return ``(m,)`` strengths from 0 to 1 in equal steps, dealt at random."""
    return rng.permutation(m) / max(1, m - 1)


def chosen_inputs(table: Table, wanted: Sequence[str] | None) -> set[str]:
    """Return the names of the inputs to change: all, unless some are named.

    Raises
    ------
    ConfigError
        If there is no such input.
    """
    known = [c.spec.name for c in table.columns]
    for name in wanted or ():
        if name not in known:
            msg = (
                f"shift.inputs: the data set has no input {name!r}"
                f"{did_you_mean(name, known)} (it has: {', '.join(known)})"
            )
            raise ConfigError(msg)
    return set(known if wanted is None else wanted)
