"""Label skew as in the FedAPM authors' code: Dirichlet shares, with overlaps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_num_clients,
    check_positive,
    partitioners,
)
from fedapm_mpi.errors import ConfigError


@partitioners.register("official-dirichlet")
def official_dirichlet(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    beta: float = 0.5,
    min_samples: int = 1,
) -> Parts:
    r"""Draw each client's share of a class from the whole class: clients overlap.

    For each class of n samples, :math:`p \sim \mathrm{Dir}(\beta 1_m)`, and client i
    gets :math:`\lfloor n p_i \rfloor` distinct samples of it, independently of others.
    So several clients may have a sample, in training or test parts, and about a third
    of the samples have no client. Use it to repeat the published experiment, and
    ``dirichlet`` for any other.

    Parameters
    ----------
    pool
        The samples; must have no groups.
    num_clients
        Number of clients.
    rng
        Source of shares and samples.
    beta
        Concentration: the smaller, the fewer classes a client has.
    min_samples
        Minimum number of samples of a client; fewer are an error.

    Raises
    ------
    ConfigError
        If `beta` is not positive, samples come in groups, or a client is left with
        too few.

    References
    ----------
    FedAPM, arXiv 2506.04672: its code for CIFAR-10 (20 clients, beta 0.5).
    """
    check_positive("beta", beta)
    if pool.groups is not None:
        msg = (
            "official-dirichlet draws single samples and cannot keep groups together; "
            "leave group out, or choose partitioner=dirichlet"
        )
        raise ConfigError(msg)
    least = max(1, min_samples)
    m = check_num_clients(num_clients, len(pool.labels), least)
    chosen: list[list[np.ndarray]] = [[] for _ in range(m)]
    for label in np.unique(pool.labels):
        members = np.flatnonzero(pool.labels == label)
        shares = rng.dirichlet(np.full(m, beta))
        # A lone client's share may be 1 less the last bit.
        sizes = np.floor(len(members) * shares + 1e-9).astype(int).tolist()
        for of_client, size in zip(chosen, sizes, strict=True):
            of_client.append(rng.choice(members, size, replace=False))
    clients = [np.sort(np.concatenate(of_client)) for of_client in chosen]
    _check_minimum(clients, least)
    return Parts(clients, overlapping=True)


def _check_minimum(clients: Sequence[NDArray[np.int64]], least: int) -> None:
    for client, rows in enumerate(clients):
        if len(rows) < least:
            msg = (
                f"client {client} has {len(rows)} samples, fewer than "
                f"min_samples={least}; take another seed, fewer clients or a larger "
                "beta"
            )
            raise ConfigError(msg)
