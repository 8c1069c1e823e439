"""Every client has all samples, as where clients differ in inputs, not in samples."""

import numpy as np

from data_prep.partitioners.base import Parts, Pool, check_num_clients, partitioners


@partitioners.register("all-samples")
def all_samples(pool: Pool, num_clients: int | None, rng: np.random.Generator) -> Parts:
    """Give all samples to every client: with ``shift=vertical`` they differ in inputs.

    All clients have the same training, test and val samples, so that no sample that one
    is evaluated on is trained on by another. Nothing is random.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Not used.

    Raises
    ------
    ConfigError
        If there is no number of clients.
    """
    m = check_num_clients(num_clients, len(pool.labels))
    return Parts([np.arange(len(pool.labels))] * m, overlapping=True)
