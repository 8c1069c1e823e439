"""Find columns whose scales differ so much that a model may not learn from them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.splits import rows_of
from fedapm_mpi.data.number_types import numbers
from fedapm_mpi.data.table import Column, Table, fetch_checked

MIN_SPREAD_RATIO = 100.0
"""A column is reported if its spread is at least this many times that of another."""

MAX_ROWS, MAX_VALUES = 20_000, 2**22
"""Maximum number of training samples, evenly over all, and of values, that are read."""

MAX_NAMED = 5
"""Maximum number of columns that are named; more are counted."""


class _Spread(NamedTuple):
    name: str
    spread: float
    """Standard deviation."""

    least: float
    """What others are compared with: of a column of two values half their distance,
    since the spread of a rare yes is small whatever its unit."""


def unscaled(table: Table, training: Sequence[NDArray[np.int64]]) -> list[str]:
    """Return a note on columns that vary 100 times as much as others, if there are any.

    Only inputs that are real numbers or vectors of a fixed length count.

    Parameters
    ----------
    table
        The samples.
    training
        Training rows of each client.
    """
    rows = rows_of(training, len(table.labels))
    found = [
        one
        for c in table.columns
        if len(c.spec.shape) <= 1 and c.lengths is None
        if not c.spec.codes and not c.spec.complex
        for one in _spreads(c, rows)
    ]
    if len(found) < 2:
        return []
    # Some of many columns hardly vary in any data set; they are no reason for a note.
    low = sorted(found, key=lambda one: one.least)[(len(found) - 1) // 10]
    wide = [one for one in found if one.spread >= MIN_SPREAD_RATIO * low.least]
    if not wide:
        return []
    named = [f"{one.name} ({one.spread:.3g})" for one in wide[:MAX_NAMED]]
    if len(wide) > MAX_NAMED:
        named.append(f"{len(wide) - MAX_NAMED} more")
    return [
        f"the spread of {', '.join(named)} is {MIN_SPREAD_RATIO:g} times that of "
        f"{low.name} ({low.spread:.3g}) or more, and many models learn "
        "nothing from such columns; "
        "shift=standardise shift.over=pooled puts every column into units of the mean "
        "and spread of all clients' training samples"
    ]


def _spreads(column: Column, rows: NDArray[np.int64]) -> list[_Spread]:
    """Return the spread of each number of an input that is not constant."""
    spec = column.spec
    width = int(np.prod(spec.shape))
    most = max(2, min(MAX_ROWS, MAX_VALUES // max(1, width)))
    rows = rows[:: max(1, -(-len(rows) // most))]
    if not len(rows):
        return []
    stored = numbers(fetch_checked(column, rows), spec.dtype)
    x = stored.reshape(len(rows), -1).astype(np.float64) * spec.scale
    with np.errstate(all="ignore"):  # what is not finite is refused later, with its row
        low, high, spread = x.min(axis=0), x.max(axis=0), x.std(axis=0)
        two = ((x == low) | (x == high)).all(axis=0)
        least = np.where(two, (high - low) / 2, spread)
    # A spread of 0 between two values is too small for its square.
    found = np.flatnonzero(np.isfinite(spread) & (high > low) & (spread > 0))
    return [
        _Spread(
            f"{spec.name}[{place}]" if spec.shape else spec.name,
            float(spread[place]),
            float(least[place]),
        )
        for place in found.tolist()
    ]
