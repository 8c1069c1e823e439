"""Clients that are held out of training, to be evaluated as new ones."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.rng import Purpose, generator
from fedapm_mpi.utils.text import format_value

Wanted = float | tuple[str, ...] | Literal["untrained"] | None
"""Which clients are new: a share of all, those of some names, or those that have no
training samples; none if None."""

Splits = dict[str, list[NDArray[np.int64]]]


class Ordered(NamedTuple):
    """Clients, the new ones last."""

    order: list[int]
    """Former number of each client."""

    new: int
    """How many of them are new."""

    def of(self, values: Sequence[Any]) -> list[Any]:
        """Return values of clients in this order."""
        return [values[k] for k in self.order]


def check_wanted(wanted: Wanted) -> None:
    """Raise `ValueError` for a share that is none, or for no names."""
    if isinstance(wanted, float) and not 0 < wanted < 1:
        msg = f"new_clients={wanted:g} must be between 0 and 1, or a list of names"
        raise ValueError(msg)
    if isinstance(wanted, tuple) and not wanted:
        msg = "new_clients=[] names no client; leave it out"
        raise ValueError(msg)


def new_clients_last(
    wanted: Wanted, names: Sequence[str], splits: Mapping[str, Any], seed: int
) -> Ordered:
    """Return the clients with the new ones last; the others keep their order.

    Parameters
    ----------
    wanted
        Which clients are new.
    names
        Of all m clients.
    splits
        Split name to the rows of each client.
    seed
        Of the preparation; a share is drawn.

    Raises
    ------
    ConfigError
        If there is no such client, or none is left to train.
    """
    m = len(names)
    if wanted is None:
        return Ordered(list(range(m)), 0)
    if isinstance(wanted, float):
        number = max(1, round(wanted * m))
        drawn = generator(seed, Purpose.NEW_CLIENTS).permutation(m)[:number]
        new = set(drawn.tolist())
    elif isinstance(wanted, tuple):
        new = {_number(name, names) for name in wanted}
    else:
        new = {k for k, rows in enumerate(splits["train"]) if not len(rows)}
    if len(new) == m:
        msg = f"new_clients: all {m} clients would be new, and none is left to train"
        raise ConfigError(msg)
    rest = [k for k in range(m) if k not in new]
    return Ordered([*rest, *sorted(new)], len(new))


def _number(name: str, names: Sequence[str]) -> int:
    found = [k for k, own in enumerate(names) if own == name]
    if len(found) != 1:
        near = did_you_mean(name[:200], list(names[:1000]))
        many = "several clients are" if found else "no client is"
        msg = f"new_clients: {many} called {format_value(name)}{'' if found else near}"
        raise ConfigError(msg)
    return found[0]
