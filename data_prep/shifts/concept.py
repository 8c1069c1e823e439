"""Groups of clients that name the same things differently."""

from dataclasses import replace

import numpy as np

from data_prep.shifts.base import Clients, Shifted, shifts
from fedapm_mpi.data.table import Table
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.rng import Purpose, generator


@shifts.register("concept")
def concept(table: Table, clients: Clients, *, groups: int = 2) -> Shifted:
    """Permute the labels of each group of clients in a way of its own.

    Clients are dealt to groups at random and evenly. The first group keeps the labels
    as they are; no two groups agree in all labels. Training and test parts change
    alike, so that one model for all can't be right for everyone.

    Parameters
    ----------
    table, clients
        The samples and who holds them.
    groups
        Number of groups.

    Raises
    ------
    ConfigError
        If there are fewer clients, or fewer permutations, than groups.
    """
    classes = len(table.classes)
    if not 2 <= groups <= clients.number:
        msg = (
            f"shift.groups must be from 2 to the {clients.number} clients, got {groups}"
        )
        raise ConfigError(msg)
    rng = generator(clients.seed, Purpose.CONCEPT)
    names = [tuple(range(classes))]
    for _ in range(1000 * groups):
        drawn = tuple(rng.permutation(classes).tolist())
        if len(names) < groups and drawn not in names:
            names.append(drawn)
    if len(names) < groups:
        msg = f"shift.groups={groups} different orders of {classes} labels can't be had"
        raise ConfigError(msg)
    group = rng.permutation(np.arange(clients.number) % groups)
    labels = np.array(names, np.int64)[group[clients.owner], table.labels]
    return Shifted(
        replace(table, labels=labels), [f"concept {g}" if g else "" for g in group]
    )
