"""Whether integers that are given as labels look like quantities."""

from collections.abc import Sequence
from math import gcd

MIN_DISTINCT = 20
"""Minimum number of distinct values for a question."""

MIN_DISTINCT_WITH_GAPS = 100
"""Number of distinct values from which on larger gaps count as a filled range."""

MAX_DENSE, MAX_SPARSE, MAX_NUMBERED = 200, 10, 2
"""Mean samples per value, below which a question is asked on values that fill their
range, that do not, and that are numbered like classes."""


def looks_like_a_quantity(values: Sequence[int], counts: Sequence[int]) -> bool:
    """Return whether labels look like the target of a regression, such as ages.

    Classes are usually numbered from 0 or 1 without gaps, and each has many samples.
    A quantity has many distinct values (here at least 20), begins anywhere, and has
    few samples of each value. The rule only decides whether to ask.

    Parameters
    ----------
    values
        The distinct labels, in rising order.
    counts
        Samples of each.
    """
    distinct = len(values)
    if distinct < MIN_DISTINCT:
        return False
    each = sum(counts) / distinct
    from_start = values[0] in (0, 1)
    span = values[-1] - values[0] + 1
    if from_start and span == distinct:
        return False
    if from_start and span <= 2 * distinct:
        return each < MAX_NUMBERED
    step = gcd(*(value - values[0] for value in values))
    # Some values of a scale, such as a test's score, may not occur.
    gaps = 4 if distinct >= MIN_DISTINCT_WITH_GAPS else 2
    dense = span <= gaps * distinct * step
    return each < (MAX_DENSE if dense else MAX_SPARSE)
