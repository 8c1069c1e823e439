"""Skew of a number, such as a regression's target: clients hold ranges of it."""

from math import sqrt

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_num_clients,
    cut_by_shares,
    gather,
    partitioners,
    repair,
    units,
)
from fedapm_mpi.errors import ConfigError


@partitioners.register("continuous")
def continuous(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    correlation: float = 0.8,
    min_samples: int = 10,
) -> Parts:
    r"""Give clients equal numbers of samples whose targets are alike.

    Samples are ordered by :math:`c z + \sqrt{1 - c^2}\, e`, with the standardised
    target z, noise e from a normal distribution and the correlation c, and cut into
    pieces of equal size, which clients get in random order. With c = 1 clients hold
    disjoint ranges of the target, with 0 they are alike.

    Parameters
    ----------
    pool
        The samples; of several targets the first counts, of classes their number, and
        of a group the mean.
    num_clients
        Number of clients.
    rng
        Source of noise and order.
    correlation
        Of a sample's target with its place in the order, from 0 to 1.
    min_samples
        Minimum number of samples of a client; the largest give up the missing ones.

    Raises
    ------
    ConfigError
        If `correlation` is not from 0 to 1, or there are too few samples.
    """
    if not 0 <= correlation <= 1:
        msg = f"partitioner.correlation must be from 0 to 1, got {correlation}"
        raise ConfigError(msg)
    least = max(1, min_samples)
    m = check_num_clients(num_clients, len(pool.labels), least)
    made = units(pool)
    values = pool.labels if pool.values is None else pool.values
    absent = int(np.isnan(values).sum())
    if absent:
        msg = (
            f"{absent} samples lack the first target, by which this partitioner goes; "
            "choose another, or another order of targets"
        )
        raise ConfigError(msg)
    mean = np.bincount(made.of_sample, weights=values) / made.sizes
    centred = mean - mean.mean()
    spread = float(centred.std()) or 1.0
    noise = rng.normal(size=len(mean))
    score = correlation * centred / spread + sqrt(1 - correlation**2) * noise
    order = np.argsort(score, kind="stable")
    owner = np.empty(len(order), np.int64)
    place = rng.permutation(m)
    owner[order] = place[cut_by_shares(made.sizes[order], np.ones(m))]
    moved = repair(owner, made.sizes, m, least, rng)
    return gather(owner, made, m, moved)
