"""Names by several columns, such as clients by hospital and ward."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.distinct import distinct
from data_prep.sample_fields import first_repeated
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value

SEPARATOR = " / "
"""Between the entries of a combination's name."""


def combined(
    columns: Sequence[tuple[NDArray[np.int64], Sequence[str]]], where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the combination of entries that each sample has, and the names of these.

    Combinations that occur are numbered from 0, ordered by the columns in turn, each by
    its codes.

    Parameters
    ----------
    columns
        For each column: the codes of the samples ``(N,)``, from 0, and their names.
    where
        What to call the columns in messages.

    Raises
    ------
    DataError
        If two combinations have the same name.
    """
    codes, chosen = columns[0][0], [np.arange(len(columns[0][1]))]
    for own, names in columns[1:]:
        size = len(names)
        present, codes = distinct(codes * size + own)
        chosen = [k[present // size] for k in chosen] + [present % size]
    parts = (
        [names[k] for k in at.tolist()]
        for at, (_, names) in zip(chosen, columns, strict=True)
    )
    found = tuple(SEPARATOR.join(some) for some in zip(*parts, strict=True))
    twice = first_repeated(found)
    if twice is not None:
        msg = (
            f"{where}: two combinations of entries have the name {format_value(twice)},"
            f" as one has {format_value(SEPARATOR)} in it; rename such entries"
        )
        raise DataError(msg)
    return codes, found
