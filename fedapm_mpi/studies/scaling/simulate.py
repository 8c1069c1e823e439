"""Replay the rounds of a run on a simulated machine; pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fedapm_mpi.studies.scaling.model import Model
from fedapm_mpi.studies.scaling.model_terms import SampledRounds, Scenario
from fedapm_mpi.studies.scaling.schedule import (
    Ints,
    Workload,
    evaluated_clients,
    first_rounds,
)

SMALL_COLLECTIVES = 4
"""Collectives of a few numbers in a round, besides broadcast, sum and evaluation."""

MAX_REPLAYED_PARTICIPANTS = 30_000_000
"""Participants in all sampled rounds together, so that they fit into memory."""


@dataclass(frozen=True)
class Machine:
    """What a round is replayed on; seconds, and bytes per second."""

    nodes: Ints
    """(P,) node of each rank, see `schedule.layout`."""

    latency: float
    bandwidth: float
    speed: float
    """Of a core, relative to the one that was measured."""


@dataclass(frozen=True)
class Schedule:
    """How often a run does what, in rounds."""

    rounds: int
    evaluate_every: int
    measure_every: int
    """Rounds between residuals."""

    def evaluates(self, t: int) -> bool:
        """Return whether round t, from 0, ends with an evaluation."""
        return (t + 1) % self.evaluate_every == 0 or t + 1 == self.rounds

    def measures(self, t: int) -> bool:
        """Return whether round t, from 0, computes residuals."""
        return (t + 1) % self.measure_every == 0 or t + 1 >= self.rounds


class SimulatedRound(NamedTuple):
    """A round of the timeline, in seconds."""

    round: int
    start: float
    broadcast: float
    work: float
    """Mean of the client ranks."""

    imbalance: float
    """What the slowest of them takes longer than the mean."""

    reduce: float
    server: float
    consensus: float
    idle: float
    evaluation: float
    end: float
    participants: int


def replay(
    model: Model,
    scenario: Scenario,
    schedule: Schedule,
    machine: Machine,
    rounds: Sequence[Ints],
) -> list[SimulatedRound]:
    """Return the timeline of a run.

    Broadcast and sum use a binomial tree, each of its ceil(log2 P) steps a message of
    the whole vector. The work of ranks and server takes as long as measured, over the
    speed of a core.

    Parameters
    ----------
    model
        Fitted to a study.
    scenario
        The experiment, on the machine's ranks.
    schedule
        How often evaluations and residuals are due.
    machine
        Latency, bandwidth and speed.
    rounds
        Participants of the first rounds; after the last of them they are repeated.
    """
    sampled = model.sample_rounds(scenario, rounds)
    timeline, now = [], 0.0
    evaluations: dict[int, float] = {}
    for t in range(schedule.rounds):
        k = t % len(rounds)
        phases = _on(machine, model, scenario, _one_round(sampled, k))
        if not schedule.measures(t):
            phases["consensus"] = 0.0
        evaluation = 0.0
        if schedule.evaluates(t):
            if k not in evaluations:
                clients = evaluated_clients(scenario.workload, [rounds[k]])
                seconds = model.evaluation(scenario, clients)
                evaluations[k] = seconds / machine.speed
            evaluation = evaluations[k]
        end = now + sum(phases.values()) + evaluation
        timeline.append(
            SimulatedRound(
                round=t + 1,
                start=now,
                evaluation=evaluation,
                end=end,
                participants=sampled.participants[k],
                **phases,
            )
        )
        now = end
    return timeline


def waiting(rounds: Sequence[SimulatedRound]) -> float:
    """Return the share of their time in which client ranks do not train or evaluate."""
    busy = sum(one.work + one.evaluation for one in rounds)
    return 1 - busy / rounds[-1].end


def replayed_rounds(workload: Workload, rounds: int) -> list[Ints]:
    """Return the participants of the first rounds, fewer if they are too many."""
    return first_rounds(
        workload,
        lambda n: max(1, min(rounds, MAX_REPLAYED_PARTICIPANTS // max(1, n))),
    )


def _one_round(sampled: SampledRounds, k: int) -> SampledRounds:
    return SampledRounds(
        loads=[sampled.loads[k]],
        samples_processed=[sampled.samples_processed[k]],
        participants=[sampled.participants[k]],
        clients_per_rank=sampled.clients_per_rank,
    )


def _on(
    machine: Machine, model: Model, scenario: Scenario, sampled: SampledRounds
) -> dict[str, float]:
    """Return a round's phases on the machine, from those on the one measured."""
    measured = model.phases(scenario, sampled)
    phases = {name: seconds / machine.speed for name, seconds in measured.items()}
    step, byte = scenario.depth * machine.latency, scenario.depth / machine.bandwidth
    phases["broadcast"] = step + byte * scenario.broadcast_bytes
    convert = model.parts["reduce"].coefficients.get("k*U", 0.0)
    busiest = sampled.loads[0].max_clients * scenario.reduce_bytes
    phases["reduce"] = step + byte * scenario.reduce_bytes
    phases["reduce"] += convert * busiest / machine.speed
    phases["idle"] += SMALL_COLLECTIVES * step
    return phases
