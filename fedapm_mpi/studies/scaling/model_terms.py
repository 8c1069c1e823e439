"""Values of the terms in a model of a round's seconds; pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log, log2, sqrt
from statistics import fmean, median
from typing import NamedTuple

import numpy as np

from fedapm_mpi.comm.backoff import poll_interval
from fedapm_mpi.studies.scaling.schedule import (
    Floats,
    Ints,
    RankLoad,
    Workload,
    home_assignment,
    layout,
    rank_load,
)

OVERSUBSCRIPTION = "oversubscription"
"""Name of the term that is 0 with a core for each client rank."""


@dataclass(frozen=True)
class Scenario:
    """An experiment on some ranks."""

    workload: Workload
    nodes: Ints
    """(P,) node of each rank, see `schedule.layout`."""

    broadcast_bytes: int
    reduce_bytes: int
    oversubscription: float = 0.0
    """Client ranks over the cores they may use, less 1; 0 with a core for each."""

    @property
    def ranks(self) -> int:
        """Number of ranks, P."""
        return len(self.nodes)

    @property
    def client_ranks(self) -> int:
        """Number of ranks that train, p."""
        return len(self.nodes) - 1

    @property
    def depth(self) -> int:
        """Steps of a binomial tree over all ranks, L."""
        return ceil(log2(self.ranks))

    def resized(self, clients: int) -> "Scenario":
        """Return the same experiment with another number of clients."""
        if clients == self.workload.clients:
            return self
        return replace(self, workload=self.workload.resized(clients))

    def on_ranks(self, client_ranks: int, per_node: int) -> "Scenario":
        """Return the same experiment on other ranks, with a core for each."""
        return replace(self, nodes=layout(client_ranks, per_node), oversubscription=0.0)


class SampledRounds(NamedTuple):
    """The work of some rounds' participants on the ranks of a scenario."""

    loads: list[RankLoad]
    """Local work in each round."""

    samples_processed: list[float]
    """Samples processed in each round."""

    participants: list[int]
    """Number of participants of each round."""

    clients_per_rank: float
    """Clients per client rank."""


def terms_of(scenario: Scenario, sampled: SampledRounds) -> dict[str, dict[str, float]]:
    """Return the value of each term of each phase but work."""
    depth, ranks = float(scenario.depth), float(scenario.ranks)
    halves = 2 * (ranks - 1) / ranks
    down, up = float(scenario.broadcast_bytes), float(scenario.reduce_bytes)
    work = median([load.mean for load in sampled.loads])
    poll = poll_interval(median([load.slowest for load in sampled.loads]))
    busiest = median([load.max_clients for load in sampled.loads])
    m, n = float(scenario.workload.clients), fmean(sampled.participants)
    extra = scenario.oversubscription
    # Residuals take a core all the time.
    per_rank = sampled.clients_per_rank * (1 + extra)
    return {
        "broadcast": {
            "L": depth, "L*D": depth * down, "S*D": halves * down,
            OVERSUBSCRIPTION: extra,
        },
        "spread": {"work*sqrt(2 ln p)": work * sqrt(2 * log(scenario.client_ranks))},
        "reduce": {
            "L": depth, "L*U": depth * up, "S*U": halves * up, "k*U": busiest * up,
            OVERSUBSCRIPTION: extra,
        },
        "server": {"1": 1.0, "D": down, "n": n, "m": m, OVERSUBSCRIPTION: extra},
        "consensus": {
            "1": 1.0, "L": depth, OVERSUBSCRIPTION: extra, "P": ranks,
            "m/p": per_rank, "m/p*D": per_rank * down, "m": m,
        },
        "idle": {
            "1": 1.0, "poll": poll, "L": depth, "poll*L": poll * depth,
            "L*D": depth * down, "S*D": halves * down, OVERSUBSCRIPTION: extra,
            "P": ranks,
        },
    }  # fmt: skip


def work_terms(
    samples: Floats, clients: Floats, down: Floats, oversubscription: Floats
) -> dict[str, Floats]:
    """Return the terms of local work, of clients or of whole rounds.

    Parameters
    ----------
    samples, clients, down, oversubscription : each (k,)
        Samples processed, number of clients, bytes broadcast, and the scenario's
        oversubscription.
    """
    return {
        "q": samples, "n": clients, f"q*{OVERSUBSCRIPTION}": samples * oversubscription,
        "q*D": samples * down, "n*D": clients * down,
    }  # fmt: skip


def evaluation_terms(scenario: Scenario, clients: Sequence[Ints]) -> dict[str, float]:
    """Return the terms of an evaluation, in samples processed.

    Parameters
    ----------
    scenario
        The experiment and its ranks.
    clients
        The clients of several evaluations, over which the terms are averaged.
    """
    workload = scenario.workload
    home_of = home_assignment(workload, scenario.client_ranks)
    costs = workload.evaluation_costs.astype(float)
    loads = [rank_load(workload, c, costs[c], home_of, scenario.nodes) for c in clients]
    slowest = float(np.mean([load.slowest for load in loads]))
    total = float(np.mean([load.mean for load in loads])) * scenario.client_ranks
    return {
        "1": 1.0, "slowest": slowest, "all": total,
        OVERSUBSCRIPTION: scenario.oversubscription, "P": scenario.ranks,
    }  # fmt: skip
