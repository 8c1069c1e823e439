"""Inputs that some clients, or some samples, lack."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.shifts.base import (
    Clients,
    Shifted,
    check_may_be_empty,
    chosen_inputs,
    emptied,
    shifts,
)
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.rng import Purpose, generator


@shifts.register("missing")
def missing(
    table: Table,
    clients: Clients,
    *,
    rate: float = 0.5,
    by: Literal["client", "sample"] = "client",
    inputs: list[str] | None = None,
    parts: Literal["all", "train", "test"] = "all",
) -> Shifted:
    """Remove inputs of clients or samples; each keeps at least one of them.

    Each client, or sample, lacks each input with probability `rate`, sampled again
    where it would lack all of them. A missing input has the length 0 and is stored as
    zeros: inputs become ragged. Models that take lengths give it no token.

    Parameters
    ----------
    table, clients
        The samples and their clients.
    rate
        Probability, above 0 and below 1.
    by
        Whether a client lacks an input altogether, or each sample for itself.
    inputs
        Names of the inputs to choose from, two or more; all unless given.
    parts
        Whether training samples lack inputs, those for testing, or all.

    Raises
    ------
    ConfigError
        If `rate` is not between 0 and 1, there is no such input, only one, or one that
        is a single number.

    References
    ----------
    Feng et al. (2023), FedMultimodal, arXiv:2306.09486, section 3.4 (by sample).
    """
    if not 0 < rate < 1:
        msg = f"shift.rate must be above 0 and below 1, got {rate}"
        raise ConfigError(msg)
    names = chosen_inputs(table, inputs)
    chosen = [c for c in table.columns if c.spec.name in names]
    _check_choice(chosen)
    number = clients.number if by == "client" else len(table.labels)
    lacks = _draw(generator(clients.seed, Purpose.MISSING), number, len(chosen), rate)
    of_sample = lacks[clients.owner] if by == "client" else lacks
    if parts != "all":
        of_sample = of_sample & (clients.training == (parts == "train"))[:, None]
    without = dict(zip((c.spec.name for c in chosen), of_sample.T, strict=True))
    columns = [
        emptied(c, without[c.spec.name]) if c.spec.name in without else c
        for c in table.columns
    ]
    notes = [""] * clients.number
    if by == "client":
        notes = [_note([c.spec.name for c in chosen], row) for row in lacks]
    return Shifted(replace(table, columns=columns), notes)


def _check_choice(chosen: Sequence[Column]) -> None:
    if len(chosen) < 2:
        msg = "shift=missing needs two inputs to choose from, so that one remains"
        raise ConfigError(msg)
    check_may_be_empty(chosen, "missing")


def _note(names: Sequence[str], lacks: NDArray[np.bool_]) -> str:
    """Describe which inputs a client lacks."""
    lacking = [name for name, lack in zip(names, lacks, strict=True) if lack]
    return f"no {', no '.join(lacking)}" if lacking else ""


def _draw(
    rng: np.random.Generator, number: int, inputs: int, rate: float
) -> NDArray[np.bool_]:
    """Return which inputs are lacking, ``(number, inputs)``, never a whole row."""
    lacks = rng.random((number, inputs)) < rate
    while (bare := np.flatnonzero(lacks.all(axis=1))).size:
        lacks[bare] = rng.random((len(bare), inputs)) < rate
    return lacks
