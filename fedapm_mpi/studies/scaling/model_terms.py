"""What the terms of a model of a round's seconds are worth; pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, log2, sqrt
from statistics import fmean, median
from typing import NamedTuple

import numpy as np

from fedapm_mpi.comm.backoff import poll_interval
from fedapm_mpi.studies.scaling import schedule as draws
from fedapm_mpi.studies.scaling.schedule import Floats, Ints, Load, Workload


@dataclass(frozen=True)
class Scenario:
    """An experiment on some ranks."""

    workload: Workload
    nodes: Ints
    """Of each rank, see `draws.layout`."""

    broadcast_bytes: int
    reduce_bytes: int
    crowd: float = 0.0
    """Ranks that train over the cores they may use, less 1; 0 with a core for each."""

    @property
    def ranks(self) -> int:
        """Ranks in all, P."""
        return len(self.nodes)

    @property
    def client_ranks(self) -> int:
        """Ranks that train, p."""
        return len(self.nodes) - 1

    @property
    def depth(self) -> int:
        """Steps of a binomial tree over all ranks, L."""
        return ceil(log2(self.ranks))


class SampledRounds(NamedTuple):
    """What the participants of some rounds amount to, on some ranks."""

    loads: list[Load]
    """Local work in each of them."""

    passed: list[float]
    """Samples passed in each."""

    counts: list[int]
    """Participants of each."""

    hosted: float
    """Clients of a rank that trains."""


def terms_of(setting: Scenario, drawn: SampledRounds) -> dict[str, dict[str, float]]:
    """Return the value of each term of each phase but work."""
    depth, ranks = float(setting.depth), float(setting.ranks)
    halves = 2 * (ranks - 1) / ranks
    down, up = float(setting.broadcast_bytes), float(setting.reduce_bytes)
    work = median([load.mean for load in drawn.loads])
    rest = poll_interval(median([load.slowest for load in drawn.loads]))
    most = median([load.most for load in drawn.loads])
    m, n = float(setting.workload.clients), fmean(drawn.counts)
    crowd = setting.crowd
    looked = drawn.hosted * (1 + crowd)  # takes a core all the time
    return {
        "broadcast": {
            "L": depth, "L*D": depth * down, "S*D": halves * down, "crowd": crowd,
        },
        "spread": {"work*sqrt(2 ln p)": work * sqrt(2 * log(setting.client_ranks))},
        "reduce": {
            "L": depth, "L*U": depth * up, "S*U": halves * up, "k*U": most * up,
            "crowd": crowd,
        },
        "server": {"1": 1.0, "D": down, "n": n, "m": m, "crowd": crowd},
        "consensus": {
            "1": 1.0, "L": depth, "crowd": crowd, "P": ranks,
            "m/p": looked, "m/p*D": looked * down, "m": m,
        },
        "idle": {
            "1": 1.0, "nap": rest, "L": depth, "nap*L": rest * depth,
            "L*D": depth * down, "S*D": halves * down, "crowd": crowd, "P": ranks,
        },
    }  # fmt: skip


def work_terms(
    costs: Floats, clients: Floats, down: Floats, crowd: Floats
) -> dict[str, Floats]:
    """Return the terms of local work, of clients or of whole rounds.

    Parameters
    ----------
    costs, clients, down, crowd : each (k,)
        Samples passed, clients, bytes broadcast, and the setting's crowd.
    """
    return {
        "q": costs, "n": clients, "q*crowd": costs * crowd, "q*D": costs * down,
        "n*D": clients * down,
    }  # fmt: skip


def evaluation_terms(setting: Scenario, who: Sequence[Ints]) -> dict[str, float]:
    """Return the terms of an evaluation, in samples passed, means over several."""
    workload = setting.workload
    host_of = draws.home_assignment(workload, setting.client_ranks)
    loads = [
        draws.load(
            workload, c, workload.tested[c].astype(float), host_of, setting.nodes
        )
        for c in who
    ]
    slowest = float(np.mean([load.slowest for load in loads]))
    total = float(np.mean([load.mean for load in loads])) * setting.client_ranks
    return {
        "1": 1.0, "slowest": slowest, "all": total, "crowd": setting.crowd,
        "P": setting.ranks,
    }  # fmt: skip
