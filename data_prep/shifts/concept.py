"""Groups of clients with different label permutations."""

from dataclasses import replace

import numpy as np

from data_prep.shifts.base import Clients, Shifted, check_classes, shifts
from fedapm_mpi.data.table import Table
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.rng import Purpose, generator


@shifts.register("concept")
def concept(table: Table, clients: Clients, *, groups: int = 2) -> Shifted:
    """Permute the labels of each group of clients by its own permutation.

    Clients are assigned to groups at random and evenly. The first group keeps its
    labels; no two groups have the same permutation. Training and test parts change
    alike, so that no single model can be right for all clients.

    Parameters
    ----------
    table, clients
        The samples and their clients.
    groups
        Number of groups.

    Raises
    ------
    ConfigError
        If there are fewer clients, or fewer permutations, than groups.
    """
    check_classes(table, "concept")
    classes = len(table.classes)
    if not 2 <= groups <= clients.number:
        msg = (
            f"shift.groups must be from 2 to the {clients.number} clients, got {groups}"
        )
        raise ConfigError(msg)
    rng = generator(clients.seed, Purpose.CONCEPT)
    names = [tuple(range(classes))]
    for _ in range(1000 * groups):
        permuted = tuple(rng.permutation(classes).tolist())
        if len(names) < groups and permuted not in names:
            names.append(permuted)
    if len(names) < groups:
        msg = (
            f"shift.groups={groups}: {classes} labels have fewer permutations; lower "
            "shift.groups"
        )
        raise ConfigError(msg)
    group = rng.permutation(np.arange(clients.number) % groups)
    labels = np.array(names, np.int64)[group[clients.owner], table.labels]
    return Shifted(
        replace(table, labels=labels), [f"concept {g}" if g else "" for g in group]
    )
