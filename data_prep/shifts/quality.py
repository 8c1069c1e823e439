"""Label noise, of a different rate for each client."""

from dataclasses import replace

import numpy as np

from data_prep.shifts.base import Clients, Shifted, check_classes, shifts, strengths
from fedapm_mpi.data.table import Table
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.rng import Purpose, generator


@shifts.register("quality")
def quality(table: Table, clients: Clients, *, level: float = 0.5) -> Shifted:
    """Make training labels wrong, from none at one client to `level` at another.

    The m clients' shares of wrong labels are in equal steps from 0 to `level`, in
    random order. The samples are chosen at random, and a wrong label is uniform over
    the other classes. Test and val parts keep the true labels.

    Parameters
    ----------
    table, clients
        The samples and their clients.
    level
        Largest share of wrong labels, above 0, at most 1.

    Raises
    ------
    ConfigError
        If `level` is 0 or not a share, or there is one class only.
    """
    if not 0 < level <= 1:
        msg = f"shift.level must be above 0 and at most 1, got {level}"
        raise ConfigError(msg)
    check_classes(table, "quality")
    classes = len(table.classes)
    if classes < 2:
        msg = "shift=quality needs two classes at least"
        raise ConfigError(msg)
    shares = level * strengths(
        clients.number, generator(clients.seed, Purpose.QUALITY_LEVELS)
    )
    labels = table.labels.astype(np.int64)
    training = np.flatnonzero(clients.training)
    order = training[np.argsort(clients.owner[training], kind="stable")]
    sizes = np.bincount(clients.owner[training], minlength=clients.number)
    for client, rows in enumerate(np.split(order, np.cumsum(sizes)[:-1])):
        rng = generator(clients.seed, Purpose.QUALITY, client)
        wrong = rng.permutation(rows)[: round(shares[client] * len(rows))]
        labels[wrong] += rng.integers(1, classes, len(wrong))
    return Shifted(
        replace(table, labels=labels % classes),
        [f"{share:.1%} wrong" if share else "" for share in shares],
    )
