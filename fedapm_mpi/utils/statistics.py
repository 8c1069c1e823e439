"""How a value spreads over clients: mean, standard deviation and worst decile."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Summary(NamedTuple):
    """Spread of a value over clients; all are NaN if no client has one."""

    mean: float
    """Mean over the clients, each with the same weight."""

    std: float
    """Population standard deviation; 0 for one client."""

    worst_decile: float
    """Mean over the worst tenth of the clients, rounded up to whole clients."""


def summarize(values: Floats, *, lower_is_worse: bool = True) -> Summary:
    """Summarize a value over clients.

    Parameters
    ----------
    values
        ``(m,)``, one per client; NaN for a client where it is undefined, which is
        left out.
    lower_is_worse
        Whether the worst clients have the lowest values, as for an accuracy, or the
        highest, as for a loss.
    """
    known = np.asarray(values, dtype=np.float64)
    known = np.sort(known[~np.isnan(known)])
    if not len(known):
        return Summary(np.nan, np.nan, np.nan)
    tenth = worst_decile_size(len(known))
    worst = known[:tenth] if lower_is_worse else known[-tenth:]
    return Summary(float(known.mean()), float(known.std()), float(worst.mean()))


def worst_decile_size(clients: int) -> int:
    """Return the number of clients in the worst decile."""
    return -(-clients // 10)
