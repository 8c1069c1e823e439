r"""A model of a round's seconds, phase by phase, fitted to measured ones; pure.

With P ranks, p = P - 1 of which train, :math:`L = \lceil \log_2 P \rceil`, m clients of
which n take part, and D and U bytes broadcast and summed:

- broadcast: :math:`\alpha L + \beta L D`, a binomial tree; or :math:`\beta S D` with
  :math:`S = 2 (P - 1) / P`, where the library scatters and gathers
- work: :math:`(c q + h n + c' q D + h' n D) / p`, q the samples that participants pass
- imbalance: what the slowest rank works longer than the mean, found by drawing the
  participants and dealing them as a run does; and :math:`\nu` times the work times
  :math:`\sqrt{2 \ln p}`, the largest of p ranks that are not equally fast
- reduce: :math:`\alpha L + \beta L U + \gamma k U`, or S for L in the second, k the
  clients of the rank with most
- server: :math:`s + s_D D + s_n n + s_m m`
- consensus: a constant, L, P (rows are gathered from each rank), :math:`m / p` clients
  of a rank, :math:`D m / p`, m
- idle: a constant, L, P, and the nap of a rank that waits for the slowest, once and L
  times; a participant's row of figures has the price of as many bytes of the sum. What
  of it grows with L D or S D is foretold as broadcast, which is still on its way when
  the server goes on
- evaluation: a constant, P, samples of the slowest rank, samples of all

Where more ranks train than there are cores, each of these has a part that grows with
their number over that of the cores, less 1. What grows with P, or with m in consensus,
cannot be told from it then and is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

import numpy as np

from fedapm_mpi.studies.scaling import schedule as draws
from fedapm_mpi.studies.scaling.model_fit import LinearFit, fit
from fedapm_mpi.studies.scaling.model_terms import (
    SampledRounds,
    Scenario,
    evaluation_terms,
    terms_of,
    work_terms,
)
from fedapm_mpi.studies.scaling.schedule import Floats, Ints

FITTED_PHASES = ("broadcast", "work", "spread", "reduce", "server", "consensus", "idle")
"""What is fitted of every round; `spread` is the part of imbalance not foreseen."""

OVERLAPPED = ("L*D", "S*D")
"""Terms of idle time that are of the broadcast: the server goes on while what it has
sent is still on its way, and waits for that later."""

SPAN_RATIO = 4
"""Largest over smallest number of ranks, below which nothing is said to grow with P."""

ROW_BYTES = 40
"""What is gathered of each participant, its number and four figures."""


@dataclass(frozen=True)
class Sample:
    """What one run of a setting took."""

    case: str
    """The same for repetitions."""

    setting: Scenario
    participants: list[Ints]
    """Of each round that was measured."""

    work: Floats
    """Seconds of local work of all participants together, round by round."""

    phases: Mapping[str, float]
    """Median seconds of the phases of a round."""

    seconds: float
    """Median seconds of a round."""

    evaluation: float
    """Mean seconds of an evaluation; NaN where there was none."""

    evaluated: list[Ints]
    """Whom each evaluation looked at."""


class FittedCase(NamedTuple):
    """What takes long to find out of a case, and does not depend on timings much."""

    drawn: SampledRounds
    evaluation: dict[str, float]
    """Terms of an evaluation; empty where there was none."""


@dataclass(frozen=True)
class Model:
    """Coefficients of every phase."""

    parts: Mapping[str, LinearFit]

    def seconds_of(self, setting: Scenario, clients: Ints) -> Floats:
        """Return the seconds of local work of each of some clients."""
        costs = setting.workload.costs[clients].astype(np.float64)
        return self._work_seconds(setting, costs, np.ones_like(costs))

    def draw(self, setting: Scenario, participants: Sequence[Ints]) -> SampledRounds:
        """Return how the work of some rounds falls to ranks."""
        workload = setting.workload
        host_of = draws.home_assignment(workload, setting.client_ranks)
        loads = [
            draws.load(workload, c, self.seconds_of(setting, c), host_of, setting.nodes)
            for c in participants
        ]
        passed = [float(workload.costs[c].sum()) for c in participants]
        hosted = workload.clients / setting.client_ranks
        return SampledRounds(loads, passed, [len(c) for c in participants], hosted)

    def resample(self, setting: Scenario, drawn: SampledRounds) -> SampledRounds:
        """Return what another model has drawn, in the seconds of this one.

        Participants stay with the rank to which they were dealt.
        """
        passed, counts = np.array(drawn.passed), np.array(drawn.counts, float)
        means = self._work_seconds(setting, passed, counts) / setting.client_ranks
        loads = []
        for load, mean in zip(drawn.loads, means.tolist(), strict=True):
            ratio = mean / load.mean if load.mean else 0.0
            loads.append(load._replace(slowest=load.slowest * ratio, mean=mean))
        return drawn._replace(loads=loads)

    def phases(self, setting: Scenario, drawn: SampledRounds) -> dict[str, float]:
        """Return the seconds of each phase of a round, medians over those drawn."""
        terms = terms_of(setting, drawn)
        work = median([load.mean for load in drawn.loads])
        slowest = median([load.slowest for load in drawn.loads])
        found = {name: self.parts[name].at(terms[name]) for name in FITTED_PHASES[2:]}
        found["broadcast"] = self.parts["broadcast"].at(terms["broadcast"])
        found["work"] = work
        found["imbalance"] = slowest - work + found.pop("spread")
        idle = self.parts["idle"].coefficients
        late = sum(idle.get(name, 0.0) * terms["idle"][name] for name in OVERLAPPED)
        found["broadcast"] += late
        found["idle"] += self.gathering(drawn) - late
        return found

    def gathering(self, drawn: SampledRounds) -> float:
        """Return the seconds in which the figures of a round's participants come in.

        At the price of a byte in the collectives of vectors, the higher of the two.
        """
        up, down = (self.parts[n].coefficients for n in ("reduce", "broadcast"))
        byte = max(up.get("L*U", 0.0), up.get("S*U", 0.0))
        byte = max(byte, down.get("L*D", 0.0), down.get("S*D", 0.0))
        return byte * ROW_BYTES * fmean(drawn.counts)

    def evaluation(self, setting: Scenario, who: Sequence[Ints]) -> float:
        """Return the seconds of an evaluation, in the mean over some."""
        return self.parts["evaluation"].at(evaluation_terms(setting, who))

    def _work_seconds(
        self, setting: Scenario, passed: Floats, counts: Floats
    ) -> Floats:
        down = np.full_like(passed, setting.broadcast_bytes)
        terms = work_terms(passed, counts, down, np.full_like(passed, setting.crowd))
        total = np.zeros_like(passed)
        for name, value in self.parts["work"].coefficients.items():
            total += value * terms[name]
        return total


def fit_model(
    samples: Sequence[Sample], known: Mapping[str, FittedCase] | None = None
) -> Model:
    """Fit all phases to what was measured.

    Work comes first: how participants are dealt depends on it. With what another model
    `knows` of the cases, nothing is drawn or dealt.
    """
    parts = {"work": _fit_work(samples)}
    begun = Model(parts)
    known = known or knowledge(begun, samples)
    drawn = {s.case: begun.resample(s.setting, known[s.case].drawn) for s in samples}
    rows = [terms_of(s.setting, drawn[s.case]) for s in samples]
    for name in FITTED_PHASES:
        if name == "work":
            continue
        target = np.array([_target(name, s, drawn[s.case], begun) for s in samples])
        parts[name] = _fit([row[name] for row in rows], target)
    tested = [s for s in samples if s.evaluation == s.evaluation]
    parts["evaluation"] = LinearFit({}, [])
    if tested:
        terms = [known[s.case].evaluation for s in tested]
        parts["evaluation"] = _fit(terms, np.array([s.evaluation for s in tested]))
    return Model(parts)


def knowledge(model: Model, samples: Sequence[Sample]) -> dict[str, FittedCase]:
    """Draw and deal the participants of every case."""
    found: dict[str, FittedCase] = {}
    for s in samples:
        if s.case not in found:
            drawn = model.draw(s.setting, s.participants)
            tested = evaluation_terms(s.setting, s.evaluated) if s.evaluated else {}
            found[s.case] = FittedCase(drawn, tested)
    return found


def _fit_work(samples: Sequence[Sample]) -> LinearFit:
    costs, counts, bytes_, crowds, work = [], [], [], [], []
    for sample in samples:
        known = sample.setting.workload.costs
        costs += [float(known[c].sum()) for c in sample.participants]
        counts += [float(len(c)) for c in sample.participants]
        bytes_ += [float(sample.setting.broadcast_bytes)] * len(sample.participants)
        crowds += [sample.setting.crowd] * len(sample.participants)
        work += sample.work.tolist()
    columns = work_terms(*(np.array(each) for each in (costs, counts, bytes_, crowds)))
    return fit(columns, np.array(work))


def _target(name: str, sample: Sample, drawn: SampledRounds, model: Model) -> float:
    if name == "idle":
        return max(0.0, sample.phases[name] - model.gathering(drawn))
    if name != "spread":
        return sample.phases[name]
    foreseen = median([load.slowest - load.mean for load in drawn.loads])
    return max(0.0, sample.phases["imbalance"] - foreseen)


def _fit(rows: Sequence[Mapping[str, float]], target: Floats) -> LinearFit:
    """Fit a phase, without terms that something else looks like in these rows."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    hidden = []
    for byte in ("D", "U"):
        moved = columns.get(f"L*{byte}")
        if moved is not None and np.ptp(moved / columns["L"]) == 0:
            # Of one size of message, what a byte takes is not known.
            hidden += [f"L*{byte}", f"S*{byte}"]
    columns = {name: v for name, v in columns.items() if name not in hidden}
    if "P" in columns and columns["P"].max() < SPAN_RATIO * columns["P"].min():
        hidden.append("P")
        del columns["P"]
    if "crowd" in columns and columns["crowd"].any():
        # What each rank does for its clients, shared cores do for all of them.
        alike = ("P", "m") if "m/p" in columns else ("P",)
        hidden += [name for name in alike if columns.pop(name, None) is not None]
    found = fit(columns, target)
    return found._replace(dropped=[*found.dropped, *hidden])
