"""Gaussian noise on inputs, of a different level for each client."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.shifts.base import Clients, Shifted, chosen_numbers, shifts, strengths
from fedapm_mpi.data.number_types import is_floating, numbers, stored
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.rng import Purpose, generator


@shifts.register("noise")
def noise(
    table: Table,
    clients: Clients,
    *,
    level: float = 0.5,
    inputs: list[str] | None = None,
) -> Shifted:
    """Add Gaussian noise to inputs, from none at one client to `level` at another.

    The standard deviations of the m clients are in equal steps from 0 to `level`, in
    random order. Each sample has its own noise, on any rank that writes it. Inputs that
    are stored as integers, such as images, are rounded and clipped to their range. The
    noise of complex inputs is circular: half of the variance is in each part. Values
    beyond the length of a ragged sample do not change.

    Parameters
    ----------
    table, clients
        The samples and their clients.
    level
        Largest standard deviation, in the units that a model sees.
    inputs
        Names of the inputs to change; all unless given.

    Raises
    ------
    ConfigError
        If `level` is not positive and finite, or there is no such input.

    References
    ----------
    Li, Diao, Chen and He (2022), arXiv:2102.02079, section 4.2 (there the variance
    rises in equal steps by the client's number).
    """
    if not 0 < level < np.inf:
        msg = f"shift.level must be positive and finite, got {level}"
        raise ConfigError(msg)
    chosen = chosen_numbers(table, inputs, "noise")
    spread = level * strengths(
        clients.number, generator(clients.seed, Purpose.NOISE_LEVELS)
    )
    columns = [
        replace(c, fetch=_noisy(c, number, spread[clients.owner], clients.seed))
        if c.spec.name in chosen
        else c
        for number, c in enumerate(table.columns)
    ]
    return Shifted(
        replace(table, columns=columns), [f"noise {s:.3g}" if s else "" for s in spread]
    )


def _noisy(
    column: Column, number: int, spread: NDArray[np.float64], seed: int
) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    spec = column.spec
    kind = spec.stored_type
    tail = spec.stored_shape[1:] if spec.shape else spec.stored_shape
    unit = spec.scale * np.sqrt(2) if spec.complex else spec.scale

    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        block = numbers(column.fetch(rows), spec.dtype).astype(np.float64)
        for place, row in enumerate(rows.tolist()):
            length = spec.shape[0] if spec.shape else 1
            if column.lengths is not None:
                length = int(column.lengths[row])
            rng = generator(seed, Purpose.NOISE, row, number)
            sampled = rng.standard_normal((length, *tail))
            if spec.shape:
                block[place, :length] += sampled * (spread[row] / unit)
            else:
                block[place] += sampled[0] * (spread[row] / unit)
        if not is_floating(spec.dtype):
            limits = np.iinfo(kind)
            block = np.clip(np.rint(block), limits.min, limits.max)
        return stored(block, spec.dtype)

    return take
