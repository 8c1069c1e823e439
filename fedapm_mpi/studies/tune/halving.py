"""Generations of trials, and successive halving within each.

Trials of a generation are asked for together. Each is trained to its first rung; the
better ones of those that reach a rung are continued to the next. At the end the best of
all are repeated with further seeds, and the one with the best mean is chosen: the best
of many single runs owes much to its seed. The sampler gets them
when the whole generation is over, in the order of trials: what is asked next depends on
neither the order nor the time in which trials end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, inf
from typing import Any

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune.record import Trial
from fedapm_mpi.studies.tune.sampler import Finished

Make = Callable[[int, int, dict[str, Any]], Trial]
"""Returns the trial of a number, a generation and parameters."""

Ask = Callable[[Sequence[Finished], int, int], list[dict[str, Any]]]
"""Returns parameters, given finished trials, the generation and how many."""


@dataclass(frozen=True)
class Plan:
    """How many trials there are, and how they are compared."""

    trials: int
    """All trials."""

    width: int
    """Trials of a generation; the last may have fewer."""

    rungs: tuple[Fraction, ...] = (Fraction(1, 4), Fraction(1, 2), Fraction(1))
    """Shares of the budget at which trials are compared, ascending; the last is 1."""

    keep: Fraction = Fraction(1, 2)
    """Share of the trials at a rung that are continued."""

    higher_is_better: bool = True

    finalists: int = 0
    """Trials that are repeated at the end; below two none is."""

    repeats: int = 2
    """Further seeds of each."""

    def __post_init__(self) -> None:
        if self.trials < 1 or self.width < 1:
            msg = "--trials and --width must be at least 1"
            raise ConfigError(msg)
        if self.finalists < 0 or self.repeats < 0:
            msg = "--finalists and --repeats must not be below 0"
            raise ConfigError(msg)
        ascending = list(self.rungs) == sorted(set(self.rungs))
        if not ascending or self.rungs[0] <= 0 or self.rungs[-1] != 1:
            msg = "--rungs must be shares that ascend from above 0 to 1, such as 1/4,1"
            raise ConfigError(msg)
        if not 0 < self.keep < 1:
            msg = "--keep must be a share between 0 and 1, such as 1/2"
            raise ConfigError(msg)

    def rungs_of(self, rounds: int) -> list[int]:
        """Return the rounds at which a trial is compared; some equal if it has few."""
        return [max(1, ceil(rounds * share)) for share in self.rungs]

    def generation_size(self, generation: int) -> int:
        """Return the number of trials in a generation; 0 after the last."""
        return max(0, min(self.width, self.trials - generation * self.width))

    def score(self, value: float) -> float:
        """Return a value of which larger is better."""
        return value if self.higher_is_better else -value


def pending(plan: Plan, generation: Sequence[Trial]) -> list[tuple[Trial, int]]:
    """Return the trials to train now, each with the rounds to train to.

    Parameters
    ----------
    plan
        The plan.
    generation
        The trials of a generation. None are returned once it is over.
    """
    for step in range(len(plan.rungs)):
        wanted = _at_step(plan, generation, step)
        todo = [t for t in wanted if t.failure is None and len(t.results) <= step]
        if todo:
            return [(trial, trial.rungs[step]) for trial in todo]
    return []


def _at_step(plan: Plan, generation: Sequence[Trial], step: int) -> list[Trial]:
    """Return the trials that are trained to a rung, in the order of their numbers."""
    able = [trial for trial in generation if len(trial.rungs) > step]
    if step == 0:
        return able
    before = _at_step(plan, generation, step - 1)
    reached = [t for t in before if len(t.results) >= step]
    kept = ceil(len(before) * plan.keep)
    ranked = sorted(reached, key=lambda t: order_of(plan, t, step - 1))
    chosen = {trial.number for trial in ranked[:kept]}
    return [trial for trial in able if trial.number in chosen]


def order_of(plan: Plan, trial: Trial, step: int) -> tuple[float, float, int]:
    """Return what sorts trials at a rung, the best first.

    Equal values are in the order of their personal parameters, the fewest first; where
    these are equal too, in the order of their numbers.
    """
    size = inf if trial.personal is None else trial.personal
    return -plan.score(trial.results[step].value), size, trial.number


def finished(plan: Plan, trials: Sequence[Trial]) -> list[Finished]:
    """Return trials as the sampler sees them."""
    return [
        Finished(
            params=trial.params,
            steps=list(range(len(trial.results))) if trial.failure is None else [],
            values=[plan.score(one.value) for one in trial.results]
            if trial.failure is None
            else [],
            complete=trial.complete and trial.failure is None,
        )
        for trial in trials
    ]


def next_generation(
    plan: Plan, trials: Sequence[Trial], ask: Ask, make: Make
) -> list[Trial]:
    """Return the trials of the next generation; none if all were asked for.

    Parameters
    ----------
    plan
        The plan.
    trials
        All trials so far, all of whose generations are over.
    ask, make
        See there.
    """
    generation = 1 + max((trial.generation for trial in trials), default=-1)
    count = plan.generation_size(generation)
    if not count:
        return [] if _repeats(trials) else final_generation(plan, trials, generation)
    asked = ask(finished(plan, trials), generation, count)
    start = len(trials)
    return [make(start + k, generation, params) for k, params in enumerate(asked)]


def final_generation(
    plan: Plan, trials: Sequence[Trial], generation: int
) -> list[Trial]:
    """Return the best trials once more with each of the further seeds.

    None are returned where there are not two to choose from.
    """
    chosen = _ranked(plan, trials)[: plan.finalists]
    if len(chosen) < 2:
        return []
    pairs = [(one, k) for one in chosen for k in range(1, plan.repeats + 1)]
    return [
        replace(
            one,
            number=len(trials) + place,
            generation=generation,
            rungs=one.rungs[-1:],
            results=[],
            repeats=one.number,
            seed=k,
        )
        for place, (one, k) in enumerate(pairs)
    ]


def best(plan: Plan, trials: Sequence[Trial]) -> Trial | None:
    """Return the best of the trials that were trained to the end, if there are any.

    Where some were repeated, it is the one of them with the best mean over seeds.
    """
    ranked = _ranked(plan, trials)
    repeated = {one.repeats for one in _repeats(trials)}
    finalists = [one for one in ranked if one.number in repeated]
    means = [(one, mean_value(trials, one)) for one in finalists]
    known = [(-plan.score(mean), one) for one, mean in means if mean is not None]
    if known:
        return min(known, key=lambda pair: pair[0])[1]  # the first of equal ones
    return ranked[0] if ranked else None


def mean_value(trials: Sequence[Trial], one: Trial) -> float | None:
    """Return a trial's mean value over its seeds; `None` if a repetition has failed."""
    own = [other for other in trials if other.repeats == one.number]
    if any(other.failure is not None or not other.results for other in own):
        return None
    values = [other.results[-1].value for other in (one, *own)]
    return sum(values) / len(values)


def _ranked(plan: Plan, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that were trained to the end, without repetitions."""
    complete = [
        t for t in trials if t.complete and t.failure is None and t.repeats is None
    ]
    return sorted(complete, key=lambda t: order_of(plan, t, len(t.rungs) - 1))


def _repeats(trials: Sequence[Trial]) -> list[Trial]:
    return [one for one in trials if one.repeats is not None]
