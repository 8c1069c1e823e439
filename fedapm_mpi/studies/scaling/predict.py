"""Predictions of a fitted model, their intervals and limits; pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from fedapm_mpi.studies.scaling.measurements import Measurements
from fedapm_mpi.studies.scaling.model import Model, Sample, fit_cases, fit_model
from fedapm_mpi.studies.scaling.model_terms import Scenario
from fedapm_mpi.studies.scaling.schedule import (
    Floats,
    Ints,
    first_rounds,
    max_sampled_rounds,
)
from fedapm_mpi.studies.scaling.summary import Row
from fedapm_mpi.utils.rng import Purpose, generator

REPLICATES = 200
"""Bootstrap samples of the repetitions, each with a model of its own."""

INTERVAL_PERCENTILES = (2.5, 97.5)
"""Percentiles between which an interval lies."""

PREDICTED_ROUNDS = 20
"""Maximum number of rounds that a prediction is the median of."""

CURVE_ROUNDS = 10
"""The same for each point of a figure's curve."""


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
    """A model, and models of bootstrap samples of the repetitions."""

    model: Model
    replicates: Sequence[Model]
    residual_ratios: Floats
    """Measured over fitted seconds of every sample."""

    fitted: Mapping[str, float]
    """Seconds of a round of every case, by the model."""

    def predict(self, scenario: Scenario, rounds: Sequence[Ints]) -> Prediction:
        """Predict a scenario, given the participants of some rounds.

        The interval covers the differences of repetitions and of model and measurement.
        It does not cover what no point of the study has, such as another network.
        """
        sampled = self.model.sample_rounds(scenario, rounds)
        phases = self.model.phases(scenario, sampled)
        seconds = sum(phases.values())
        rng = generator(0, Purpose.SCALING_MISFITS)
        spread = [
            sum(one.phases(scenario, one.rescale(scenario, sampled)).values())
            * float(rng.choice(self.residual_ratios))
            for one in self.replicates
        ]
        low, high = (
            np.percentile(spread, INTERVAL_PERCENTILES) if spread else (np.nan, np.nan)
        )
        return Prediction(
            client_ranks=scenario.client_ranks,
            clients=scenario.workload.clients,
            participants=float(np.mean(sampled.participants)),
            phases=phases,
            seconds=seconds,
            low=min(seconds, float(low)),
            high=max(seconds, float(high)),
        )

    def coefficient_interval(self, phase: str, term: str) -> tuple[float, float]:
        """Return between which values 95 % of the replicates' coefficients lie."""
        values = sorted(
            one.parts[phase].coefficients.get(term, 0.0) for one in self.replicates
        )
        tail = len(values) // 40
        return values[tail], values[-1 - tail]


def ensemble(samples: Sequence[Sample], replicates: int = REPLICATES) -> Ensemble:
    """Fit a model, and one to each bootstrap sample of every point's repetitions."""
    model = fit_model(samples)
    cases = fit_cases(model, samples)
    by_case: dict[str, list[Sample]] = {}
    for sample in samples:
        by_case.setdefault(sample.case, []).append(sample)
    models = []
    for k in range(replicates):
        rng = generator(0, Purpose.SCALING_BOOTSTRAP, k)
        chosen = [
            repetitions[int(index)]
            for repetitions in by_case.values()
            for index in rng.integers(len(repetitions), size=len(repetitions))
        ]
        models.append(fit_model(chosen, cases))
    fitted = {
        case: sum(model.phases(found[0].scenario, cases[case].sampled).values())
        for case, found in by_case.items()
    }
    ratios = np.array([sample.seconds / fitted[sample.case] for sample in samples])
    return Ensemble(model, models, ratios, fitted)


def hold_out(
    samples: Sequence[Sample], held_out: Sequence[str], replicates: int = REPLICATES
) -> list[HeldOutPoint]:
    """Fit to all cases but some, and predict those; nothing if too few are left."""
    rest = [sample for sample in samples if sample.case not in held_out]
    if len({sample.case for sample in rest}) < 2:
        return []
    fitted = ensemble(rest, replicates)
    found = []
    for case in held_out:
        of_case = [sample for sample in samples if sample.case == case]
        there = fitted.predict(of_case[0].scenario, of_case[0].participants)
        measured = float(np.mean([sample.seconds for sample in of_case]))
        found.append(HeldOutPoint(case, there.seconds, there.low, there.high, measured))
    return found


def largest_cases(measured: Sequence[Measurements]) -> list[str]:
    """Return the cases with most ranks, or bytes, of each study."""
    found = []
    for kind in ("strong", "weak", "size"):
        points = [m for m in measured if m.point.kind == kind]
        if len({m.point.case for m in points}) > 1:
            key = max(points, key=lambda m: (m.point.client_ranks, m.broadcast_bytes))
            found.append(key.point.case)
    return found


def ranks_per_node(samples: Sequence[Sample]) -> int:
    """Return the ranks that share a node in the largest point."""
    nodes: list[int] = max((s.scenario.nodes for s in samples), key=len)[1:].tolist()
    shared = max(nodes.count(node) for node in set(nodes))
    return shared + 1 if shared == len(nodes) else shared


def base_sample(samples: Sequence[Sample]) -> Sample:
    """Return a sample of the unchanged experiment, with all its clients."""
    return max(
        samples,
        key=lambda s: (s.case.startswith("strong"), s.scenario.workload.clients),
    )


def rounds_for(sample: Sample, scenario: Scenario, rounds: int) -> list[Ints]:
    """Return the participants of at most `rounds` rounds of a scenario.

    They are those of the sample's rounds, where it has the same number of clients.
    """
    workload = scenario.workload
    if workload.clients == sample.scenario.workload.clients:
        return sample.participants[:rounds]
    return first_rounds(workload, partial(max_sampled_rounds, rounds))


def predict_all(
    fitted: Ensemble,
    samples: Sequence[Sample],
    measured: Sequence[Measurements],
    ranks: Sequence[int],
    clients: Sequence[int],
    per_node: int,
) -> list[Prediction]:
    """Predict rounds on several numbers of client ranks.

    Parameters
    ----------
    fitted
        The model of a study.
    samples, measured
        What it is fitted to.
    ranks
        Numbers of client ranks.
    clients
        Numbers of clients; if empty, that of the data set and, with a weak study, its
        number per rank.
    per_node
        Ranks that share a node.
    """
    sample = base_sample(samples)

    def predict(count: int, on: Sequence[int]) -> list[Prediction]:
        scenario = sample.scenario.resized(count)
        rounds = rounds_for(sample, scenario, PREDICTED_ROUNDS)
        return [fitted.predict(scenario.on_ranks(p, per_node), rounds) for p in on]

    counts = clients or [sample.scenario.workload.clients]
    found = [one for count in counts for one in predict(count, ranks)]
    weak = {m.clients // m.client_ranks for m in measured if m.point.kind == "weak"}
    if not clients and weak:
        found += [one for p in ranks for one in predict(p * min(weak), [p])]
    return found


def predict_curves(
    fitted: Ensemble,
    samples: Sequence[Sample],
    rows: Sequence[Row],
    max_ranks: int,
    per_node: int,
) -> dict[str, list[Prediction]]:
    """Predict the strong and the weak study on 1, 2, 4, ... `max_ranks` client ranks.

    Returns
    -------
    dict
        Predictions by kind of study, for the kinds that `rows` has.
    """
    curves: dict[str, list[Prediction]] = {}
    sample = base_sample(samples)
    base = sample.scenario
    doubling = [2**k for k in range(max_ranks.bit_length()) if 2**k < max_ranks]
    doubling.append(max_ranks)
    for kind in ("strong", "weak"):
        first = next((row for row in rows if row.kind == kind), None)
        if first is None:
            continue
        per_rank = first.clients // first.client_ranks
        curves[kind] = []
        for p in doubling:
            scenario = base.resized(p * per_rank) if kind == "weak" else base
            rounds = rounds_for(sample, scenario, CURVE_ROUNDS)
            there = scenario.on_ranks(p, per_node)
            curves[kind].append(fitted.predict(there, rounds))
    return curves


def crossover(
    model: Model,
    scenario: Scenario,
    rounds: Sequence[Ints],
    max_ranks: int,
    per_node: int,
) -> tuple[int, str] | None:
    """Return from how many client ranks on work is less than all else, and what leads.

    Searches 1, 2, 4, ... up to `max_ranks`; `None` if work is most of a round on all.
    """
    p = 1
    while p <= max_ranks:
        there = scenario.on_ranks(p, per_node)
        phases = model.phases(there, model.sample_rounds(there, rounds))
        if 2 * phases["work"] < sum(phases.values()):
            rest = {name: v for name, v in phases.items() if name != "work"}
            return p, max(rest, key=lambda name: rest[name])
        p *= 2
    return None
