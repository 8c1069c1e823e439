r"""A model of a round's seconds, phase by phase, fitted to measurements; pure.

With P ranks, p = P - 1 of which train, :math:`L = \lceil \log_2 P \rceil`, m clients of
which n take part, and D and U bytes broadcast and summed:

- broadcast: :math:`\alpha L + \beta L D`, a binomial tree; or :math:`\beta S D` with
  :math:`S = 2 (P - 1) / P`, where the library scatters and gathers
- work: :math:`(c q + h n + c' q D + h' n D) / p`, q the samples that participants
  process
- imbalance: what the slowest rank works longer than the mean, found by assigning the
  participants of a round to ranks as a run does; and :math:`\nu` times the work times
  :math:`\sqrt{2 \ln p}`, the largest of p ranks that are not equally fast
- reduce: :math:`\alpha L + \beta L U + \gamma k U`, or S for L in the second, k the
  clients of the rank with most
- server: :math:`s + s_D D + s_n n + s_m m`
- consensus: a constant, L, P (rows are gathered from each rank), :math:`m / p` clients
  of a rank, :math:`D m / p`, m
- idle: a constant, L, P, and the polling interval of a rank that waits for the slowest,
  once and L times; a participant's row of metrics costs as much as that many bytes of
  the sum. Its part that grows with L D or S D is predicted as broadcast, which may
  still be under way when the server continues
- evaluation: a constant, P, samples of the slowest rank, samples of all

On more client ranks than cores, each of these has a part that grows with the
oversubscription: client ranks over cores, less 1. What grows with P, or with m in
consensus, is not identifiable then and is dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

import numpy as np

from fedapm_mpi.studies.scaling.model_fit import LinearFit, fit
from fedapm_mpi.studies.scaling.model_terms import (
    OVERSUBSCRIPTION,
    SampledRounds,
    Scenario,
    evaluation_terms,
    terms_of,
    work_terms,
)
from fedapm_mpi.studies.scaling.schedule import (
    Floats,
    Ints,
    home_assignment,
    rank_load,
)

FITTED_PHASES = ("broadcast", "work", "spread", "reduce", "server", "consensus", "idle")
"""What is fitted in every round; `spread` is the imbalance that the assignment of
clients does not explain."""

OVERLAPPED_TERMS = ("L*D", "S*D")
"""Terms of idle time that belong to the broadcast: the server continues while its
message is still under way, and waits for that later."""

MIN_RANK_RATIO = 4
"""Largest over smallest number of ranks, below which no term in P is fitted."""

ROW_BYTES = 40
"""Bytes that are gathered of each participant: its number and four metrics."""


@dataclass(frozen=True)
class Sample:
    """Measurements of one run of a scenario."""

    case: str
    """The same for repetitions."""

    scenario: Scenario
    participants: list[Ints]
    """Of each round that was measured."""

    work: Floats
    """Seconds of local work of all participants together, round by round."""

    phases: Mapping[str, float]
    """Median seconds of the phases of a round."""

    seconds: float
    """Median seconds of a round."""

    evaluation: float
    """Mean seconds of an evaluation; NaN without one."""

    evaluated: list[Ints]
    """Clients of each evaluation."""


class FittedCase(NamedTuple):
    """What is expensive to compute for a case, and hardly depends on timings."""

    sampled: SampledRounds
    evaluation: dict[str, float]
    """Terms of an evaluation; empty without one."""


@dataclass(frozen=True)
class Model:
    """Coefficients of every phase."""

    parts: Mapping[str, LinearFit]

    def seconds_of(self, scenario: Scenario, clients: Ints) -> Floats:
        """Return the seconds of local work of each of some clients, (k,)."""
        costs = scenario.workload.training_costs[clients].astype(np.float64)
        return self._work_seconds(scenario, costs, np.ones_like(costs))

    def sample_rounds(
        self, scenario: Scenario, participants: Sequence[Ints]
    ) -> SampledRounds:
        """Return how the work of some rounds falls to ranks."""
        workload = scenario.workload
        home_of = home_assignment(workload, scenario.client_ranks)
        loads = [
            rank_load(
                workload, c, self.seconds_of(scenario, c), home_of, scenario.nodes
            )
            for c in participants
        ]
        return SampledRounds(
            loads=loads,
            samples_processed=[
                float(workload.training_costs[c].sum()) for c in participants
            ],
            participants=[len(c) for c in participants],
            clients_per_rank=workload.clients / scenario.client_ranks,
        )

    def rescale(self, scenario: Scenario, sampled: SampledRounds) -> SampledRounds:
        """Return rounds that another model has sampled, in the seconds of this one.

        Participants stay on the rank to which they were assigned.
        """
        samples = np.array(sampled.samples_processed)
        participants = np.array(sampled.participants, float)
        seconds = self._work_seconds(scenario, samples, participants)
        means = seconds / scenario.client_ranks
        loads = []
        for load, mean in zip(sampled.loads, means.tolist(), strict=True):
            ratio = mean / load.mean if load.mean else 0.0
            loads.append(load._replace(slowest=load.slowest * ratio, mean=mean))
        return sampled._replace(loads=loads)

    def phases(self, scenario: Scenario, sampled: SampledRounds) -> dict[str, float]:
        """Return the seconds of each phase of a round, medians over those sampled."""
        terms = terms_of(scenario, sampled)
        work = median([load.mean for load in sampled.loads])
        slowest = median([load.slowest for load in sampled.loads])
        found = {name: self.parts[name].at(terms[name]) for name in FITTED_PHASES[2:]}
        found["broadcast"] = self.parts["broadcast"].at(terms["broadcast"])
        found["work"] = work
        found["imbalance"] = slowest - work + found.pop("spread")
        idle = self.parts["idle"].coefficients
        late = sum(
            idle.get(name, 0.0) * terms["idle"][name] for name in OVERLAPPED_TERMS
        )
        found["broadcast"] += late
        found["idle"] += self.gathering(sampled) - late
        return found

    def gathering(self, sampled: SampledRounds) -> float:
        """Return the seconds in which the metrics of a round's participants arrive.

        At the price of a byte in the collectives of vectors, the higher of the two.
        """
        up, down = (self.parts[n].coefficients for n in ("reduce", "broadcast"))
        byte = max(up.get("L*U", 0.0), up.get("S*U", 0.0))
        byte = max(byte, down.get("L*D", 0.0), down.get("S*D", 0.0))
        return byte * ROW_BYTES * fmean(sampled.participants)

    def evaluation(self, scenario: Scenario, clients: Sequence[Ints]) -> float:
        """Return the mean seconds of some evaluations, given their clients."""
        return self.parts["evaluation"].at(evaluation_terms(scenario, clients))

    def _work_seconds(
        self, scenario: Scenario, samples: Floats, participants: Floats
    ) -> Floats:
        down = np.full_like(samples, scenario.broadcast_bytes)
        extra = np.full_like(samples, scenario.oversubscription)
        terms = work_terms(samples, participants, down, extra)
        total = np.zeros_like(samples)
        for name, value in self.parts["work"].coefficients.items():
            total += value * terms[name]
        return total


def fit_model(
    samples: Sequence[Sample], cases: Mapping[str, FittedCase] | None = None
) -> Model:
    """Fit all phases to measurements.

    Work comes first: how participants are assigned depends on it.

    Parameters
    ----------
    samples
        Measurements of all points and repetitions.
    cases
        What `fit_cases` returned for another model, so that nothing is sampled or
        assigned again.

    Raises
    ------
    ConfigError
        If SciPy is not installed.
    """
    parts = {"work": _fit_work(samples)}
    work_model = Model(parts)
    cases = cases or fit_cases(work_model, samples)
    sampled = {
        s.case: work_model.rescale(s.scenario, cases[s.case].sampled) for s in samples
    }
    rows = [terms_of(s.scenario, sampled[s.case]) for s in samples]
    for name in FITTED_PHASES:
        if name == "work":
            continue
        target = [_target(name, s, sampled[s.case], work_model) for s in samples]
        parts[name] = _fit([row[name] for row in rows], np.array(target))
    evaluated = [s for s in samples if s.evaluation == s.evaluation]
    parts["evaluation"] = LinearFit({}, [])
    if evaluated:
        terms = [cases[s.case].evaluation for s in evaluated]
        parts["evaluation"] = _fit(terms, np.array([s.evaluation for s in evaluated]))
    return Model(parts)


def fit_cases(model: Model, samples: Sequence[Sample]) -> dict[str, FittedCase]:
    """Sample and assign the participants of every case."""
    found: dict[str, FittedCase] = {}
    for s in samples:
        if s.case not in found:
            sampled = model.sample_rounds(s.scenario, s.participants)
            terms = evaluation_terms(s.scenario, s.evaluated) if s.evaluated else {}
            found[s.case] = FittedCase(sampled, terms)
    return found


def _fit_work(samples: Sequence[Sample]) -> LinearFit:
    costs, counts, bytes_, extras, work = [], [], [], [], []
    for sample in samples:
        scenario, rounds = sample.scenario, len(sample.participants)
        training_costs = scenario.workload.training_costs
        costs += [float(training_costs[c].sum()) for c in sample.participants]
        counts += [float(len(c)) for c in sample.participants]
        bytes_ += [float(scenario.broadcast_bytes)] * rounds
        extras += [scenario.oversubscription] * rounds
        work += sample.work.tolist()
    columns = work_terms(*(np.array(each) for each in (costs, counts, bytes_, extras)))
    return fit(columns, np.array(work))


def _target(name: str, sample: Sample, sampled: SampledRounds, model: Model) -> float:
    if name == "idle":
        return max(0.0, sample.phases[name] - model.gathering(sampled))
    if name != "spread":
        return sample.phases[name]
    assigned = median([load.slowest - load.mean for load in sampled.loads])
    return max(0.0, sample.phases["imbalance"] - assigned)


def _fit(rows: Sequence[Mapping[str, float]], target: Floats) -> LinearFit:
    """Fit a phase, without terms that are not identifiable from these rows."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    hidden = []
    for byte in ("D", "U"):
        moved = columns.get(f"L*{byte}")
        if moved is not None and np.ptp(moved / columns["L"]) == 0:
            # With one size of message, the price of a byte is unknown.
            hidden += [f"L*{byte}", f"S*{byte}"]
    columns = {name: v for name, v in columns.items() if name not in hidden}
    if "P" in columns and columns["P"].max() < MIN_RANK_RATIO * columns["P"].min():
        hidden.append("P")
        del columns["P"]
    if OVERSUBSCRIPTION in columns and columns[OVERSUBSCRIPTION].any():
        # What each rank does for its clients, shared cores do for all of them.
        alike = ("P", "m") if "m/p" in columns else ("P",)
        hidden += [name for name in alike if columns.pop(name, None) is not None]
    found = fit(columns, target)
    return found._replace(dropped=[*found.dropped, *hidden])
