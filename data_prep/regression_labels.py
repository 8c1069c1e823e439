"""Whether integers that are given as labels look like quantities."""

from collections.abc import Sequence
from math import gcd

MANY = 20
"""Fewest distinct values that are asked about."""

MANY_WITH_GAPS = 100
"""Distinct values from which on half as many of a range need be there to fill it."""

FEW_DENSE, FEW_SPARSE, SINGLE = 200, 10, 2
"""Samples of a class, on average, below which values that fill their range, ones that
do not, and ones that are numbered as classes are, are asked about."""


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
    if distinct < MANY:
        return False
    each = sum(counts) / distinct
    from_start = values[0] in (0, 1)
    span = values[-1] - values[0] + 1
    if from_start and span == distinct:
        return False
    if from_start and span <= 2 * distinct:
        return each < SINGLE
    step = gcd(*(value - values[0] for value in values))
    # Of a scale, such as that of a test's score, some values may not occur.
    gaps = 4 if distinct >= MANY_WITH_GAPS else 2
    dense = span <= gaps * distinct * step
    return each < (FEW_DENSE if dense else FEW_SPARSE)
