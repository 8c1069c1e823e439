"""Replay the rounds of a run on a machine that is not there; pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fedapm_mpi.studies.scaling import schedule as draws
from fedapm_mpi.studies.scaling.model import Model
from fedapm_mpi.studies.scaling.model_terms import SampledRounds, Scenario
from fedapm_mpi.studies.scaling.schedule import Ints, Workload

SMALL_BYTES = 4
"""Collectives of a few numbers in a round, beside broadcast, sum and evaluation."""


@dataclass(frozen=True)
class Machine:
    """What a round is replayed on; seconds, and bytes a second."""

    nodes: Ints
    """Of each rank, see `draws.layout`."""

    latency: float
    bandwidth: float
    speed: float
    """Of a core, relative to the one that was measured."""


@dataclass(frozen=True)
class Schedule:
    """What a run does when."""

    rounds: int
    evaluate_every: int
    measure_every: int
    """Rounds between residuals."""


class SimulatedRound(NamedTuple):
    """A round of the timeline, in seconds."""

    round: int
    start: float
    broadcast: float
    work: float
    """Mean of the ranks that train."""

    imbalance: float
    """What the slowest of them takes longer."""

    reduce: float
    server: float
    consensus: float
    idle: float
    evaluation: float
    end: float
    participants: int


def replay(
    model: Model,
    setting: Scenario,
    schedule: Schedule,
    machine: Machine,
    drawn_rounds: Sequence[Ints],
) -> list[SimulatedRound]:
    """Return the timeline of a run.

    Broadcast and sum go along a binomial tree, each of its ceil(log2 P) steps a message
    of the whole vector. What ranks and server do takes as long as measured, over the
    speed of a core.

    Parameters
    ----------
    model
        Fitted to a study.
    setting
        The experiment, on the machine's ranks.
    schedule
        How often what is done.
    machine
        Where.
    drawn_rounds
        Participants of the first rounds; after the last of them they come again.
    """
    workload = setting.workload
    drawn = model.draw(setting, drawn_rounds)
    found, now = [], 0.0
    evaluations: dict[int, float] = {}
    for t in range(schedule.rounds):
        k = t % len(drawn_rounds)
        one = SampledRounds(
            [drawn.loads[k]], [drawn.passed[k]], [drawn.counts[k]], drawn.hosted
        )
        phases = _on(machine, model, setting, one)
        if (t + 1) % schedule.measure_every and t + 1 < schedule.rounds:
            phases["consensus"] = 0.0
        evaluation = 0.0
        if (t + 1) % schedule.evaluate_every == 0 or t + 1 == schedule.rounds:
            if k not in evaluations:
                who = draws.evaluated(workload, [drawn_rounds[k]])
                evaluations[k] = model.evaluation(setting, who) / machine.speed
            evaluation = evaluations[k]
        end = now + sum(phases.values()) + evaluation
        found.append(
            SimulatedRound(
                round=t + 1,
                start=now,
                evaluation=evaluation,
                end=end,
                participants=drawn.counts[k],
                **phases,
            )
        )
        now = end
    return found


def waiting(rounds: Sequence[SimulatedRound]) -> float:
    """Return the share of their time for which ranks that train do not."""
    busy = sum(one.work + one.evaluation for one in rounds)
    return 1 - busy / rounds[-1].end


def first_rounds(workload: Workload, rounds: int, most: int = 30_000_000) -> list[Ints]:
    """Return the participants of the first rounds, at most so many in all."""
    first = workload.participants(0)
    count = max(1, min(rounds, most // max(1, len(first))))
    return [first, *(workload.participants(t) for t in range(1, count))]


def _on(
    machine: Machine, model: Model, setting: Scenario, drawn: SampledRounds
) -> dict[str, float]:
    """Return a round's phases on the machine, from those on the one measured."""
    phases = {n: v / machine.speed for n, v in model.phases(setting, drawn).items()}
    step, byte = setting.depth * machine.latency, setting.depth / machine.bandwidth
    phases["broadcast"] = step + byte * setting.broadcast_bytes
    convert = model.parts["reduce"].coefficients.get("k*U", 0.0)
    busiest = drawn.loads[0].most * setting.reduce_bytes
    phases["reduce"] = step + byte * setting.reduce_bytes
    phases["reduce"] += convert * busiest / machine.speed
    phases["idle"] += SMALL_BYTES * step
    return phases
