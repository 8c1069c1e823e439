"""Skew by who or where samples are from: Dirichlet shares of each natural client."""

from collections.abc import Sequence

import numpy as np

from data_prep.partitioners.base import Indices, Pool, partitioners
from data_prep.partitioners.dirichlet import dirichlet
from fedapm_mpi.errors import ConfigError


@partitioners.register("natural-dirichlet")
def natural_dirichlet(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    beta: float = 0.5,
    min_samples: int = 10,
) -> Sequence[Indices]:
    """Split each natural client among new ones in shares drawn from Dir(beta).

    For clients that differ in an attribute, such as the camera or the region, and not
    in labels: name its column, or several, as that of the client. The smaller beta is,
    the fewer entries of it a new client has samples of. It is what ``dirichlet`` does
    by label.

    Parameters
    ----------
    pool
        The samples; must have ids.
    num_clients
        Number of clients.
    rng
        Source of shares and order.
    beta
        Concentration: the smaller, the fewer natural clients a client has samples of.
    min_samples
        Minimum number of samples of a client; the largest give up the missing ones.

    Raises
    ------
    ConfigError
        If the data names no clients, `beta` is not positive, or there are too few
        samples.
    """
    if pool.ids is None:
        msg = (
            "the source names no clients, whose samples this partitioner divides; name "
            "a column as that of the client, or choose partitioner=dirichlet"
        )
        raise ConfigError(msg)
    by_attribute = pool._replace(labels=pool.ids)
    return dirichlet(by_attribute, num_clients, rng, beta=beta, min_samples=min_samples)
