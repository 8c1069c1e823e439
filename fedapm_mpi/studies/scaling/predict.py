"""What a fitted model foretells, how sure it is, what will limit; pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fedapm_mpi.studies.scaling import schedule as draws
from fedapm_mpi.studies.scaling.model import Model, Sample, fit_model, knowledge
from fedapm_mpi.studies.scaling.model_terms import Scenario
from fedapm_mpi.studies.scaling.schedule import Floats, Ints
from fedapm_mpi.utils.rng import generator

REPLICATES = 200
"""Samples of the repetitions, each with a model of its own."""

COVERAGE = (2.5, 97.5)
"""Percentiles between which an interval lies."""


class Prediction(NamedTuple):
    """Seconds of a round that was not measured."""

    client_ranks: int
    clients: int
    participants: float
    phases: dict[str, float]
    seconds: float
    low: float
    high: float

    @property
    def limit(self) -> str:
        """The phase that takes longest."""
        return max(self.phases, key=lambda name: self.phases[name])


class HeldOutPoint(NamedTuple):
    """A point that the model was not fitted to."""

    case: str
    predicted: float
    low: float
    high: float
    measured: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Ensemble:
    """A model, and others that chance might have led to as well."""

    model: Model
    others: Sequence[Model]
    misfits: Floats
    """Measured over fitted seconds of every sample."""

    fitted: Mapping[str, float]
    """Seconds of a round of every case, by the model."""

    def predict(self, setting: Scenario, rounds: Sequence[Ints]) -> Prediction:
        """Foretell a setting, given the participants of some rounds.

        The interval covers what repetitions differ by and how far the model is from
        what it was fitted to, not what no study has seen, such as another network.
        """
        drawn = self.model.draw(setting, rounds)
        phases = self.model.phases(setting, drawn)
        seconds = sum(phases.values())
        rng = generator(0, "scaling misfits")
        spread = [
            sum(one.phases(setting, one.resample(setting, drawn)).values())
            * float(rng.choice(self.misfits))
            for one in self.others
        ]
        low, high = np.percentile(spread, COVERAGE) if spread else (np.nan, np.nan)
        return Prediction(
            client_ranks=setting.client_ranks,
            clients=setting.workload.clients,
            participants=float(np.mean(drawn.counts)),
            phases=phases,
            seconds=seconds,
            low=min(seconds, float(low)),
            high=max(seconds, float(high)),
        )


def ensemble(samples: Sequence[Sample], replicates: int = REPLICATES) -> Ensemble:
    """Fit a model, and one to each of many draws of the repetitions of every point."""
    model = fit_model(samples)
    known = knowledge(model, samples)
    by_case: dict[str, list[Sample]] = {}
    for sample in samples:
        by_case.setdefault(sample.case, []).append(sample)
    others = []
    for k in range(replicates):
        rng = generator(0, "scaling bootstrap", k)
        chosen = [
            own[int(index)]
            for own in by_case.values()
            for index in rng.integers(len(own), size=len(own))
        ]
        others.append(fit_model(chosen, known))
    fitted = {
        case: sum(model.phases(own[0].setting, known[case].drawn).values())
        for case, own in by_case.items()
    }
    misfits = np.array([sample.seconds / fitted[sample.case] for sample in samples])
    return Ensemble(model, others, misfits, fitted)


def hold_out(
    samples: Sequence[Sample], held: Sequence[str], replicates: int = REPLICATES
) -> list[HeldOutPoint]:
    """Fit to all cases but some, and foretell those; nothing if none are left."""
    rest = [sample for sample in samples if sample.case not in held]
    if len({sample.case for sample in rest}) < 2:
        return []
    fitted = ensemble(rest, replicates)
    found = []
    for case in held:
        own = [sample for sample in samples if sample.case == case]
        there = fitted.predict(own[0].setting, own[0].participants)
        measured = float(np.mean([sample.seconds for sample in own]))
        found.append(HeldOutPoint(case, there.seconds, there.low, there.high, measured))
    return found


def on_ranks(setting: Scenario, client_ranks: int, per_node: int) -> Scenario:
    """Return the same experiment on another number of ranks, with a core for each."""
    return replace(setting, nodes=draws.layout(client_ranks, per_node), crowd=0.0)


def crossover(
    model: Model, setting: Scenario, rounds: Sequence[Ints], most: int, per_node: int
) -> tuple[int, str] | None:
    """Return from how many client ranks on work is less than all else, and what leads.

    Numbers that double are looked at; `None` if work is most of a round on all.
    """
    p = 1
    while p <= most:
        there = on_ranks(setting, p, per_node)
        phases = model.phases(there, model.draw(there, rounds))
        if 2 * phases["work"] < sum(phases.values()):
            rest = {name: v for name, v in phases.items() if name != "work"}
            return p, max(rest, key=lambda name: rest[name])
        p *= 2
    return None
