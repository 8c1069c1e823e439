"""Label skew as in the FedAPM authors' code: by Dirichlet draws, with overlaps."""

import numpy as np

from data_prep.partitioners.base import Parts, Pool, needed, partitioners, positive
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
    gets :math:`\lfloor n p_i \rfloor` distinct samples of it, whatever the others got.
    So a sample may be with several clients, in one's training and another's test part,
    and about a third is with none: use it to repeat the published experiment, and
    ``dirichlet`` for any other.

    Parameters
    ----------
    pool
        The samples; must have no groups.
    num_clients
        Number of clients.
    rng
        Where the shares and samples come from.
    beta
        Concentration: the smaller, the fewer classes a client has.
    min_samples
        Fewest samples of a client. Nothing is moved, as the authors move nothing: it
        is an error if a client has fewer.

    Raises
    ------
    ConfigError
        If `beta` is not positive, samples come in groups, or a client is left with
        too few.

    References
    ----------
    FedAPM, arXiv 2506.04672: its code for CIFAR-10 (20 clients, beta 0.5).
    """
    positive("beta", beta)
    if pool.groups is not None:
        msg = (
            "official-dirichlet draws single samples and cannot keep groups together; "
            "leave group out, or choose partitioner=dirichlet"
        )
        raise ConfigError(msg)
    least = max(1, min_samples)
    m = needed(num_clients, len(pool.labels), least)
    drawn: list[list[np.ndarray]] = [[] for _ in range(m)]
    for label in np.unique(pool.labels):
        members = np.flatnonzero(pool.labels == label)
        shares = rng.dirichlet(np.full(m, beta))
        # A lone client's share may be 1 less the last bit.
        sizes = np.floor(len(members) * shares + 1e-9).astype(int).tolist()
        for own, size in zip(drawn, sizes, strict=True):
            own.append(rng.choice(members, size, replace=False))
    clients = [np.sort(np.concatenate(own)) for own in drawn]
    for client, rows in enumerate(clients):
        if len(rows) < least:
            msg = (
                f"client {client} was drawn {len(rows)} samples, fewer than "
                f"min_samples={least}; take another seed, fewer clients or a larger "
                "beta"
            )
            raise ConfigError(msg)
    return Parts(clients, overlapping=True)
