"""Sample parameters: a stratified first part, then Optuna's estimator of good ones.

A generation is a function of the study's seed, its own number and the finished trials,
which are given to a new Optuna study each time. So a study that was stopped continues
from its record as if it had not been, and how fast a machine is changes nothing.
"""

import warnings
from collections.abc import Sequence
from importlib import import_module
from math import ceil
from typing import Any, NamedTuple

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune.space import Dimension, Params, Range, Space
from fedapm_mpi.utils.rng import generator

STRATIFIED, ESTIMATED = "tune stratified", "tune estimated"
"""Purposes of the random streams."""

FEWEST_GOOD = 4
"""Trials that are taken for good ones until a tenth of all is more, as far as they are
a quarter. Optuna's tenth is a single trial of a small search, and those that follow are
its copies."""

MOST_GOOD = 25

MIN_STRATIFIED = 8
"""Trials after which parameters are estimated from those before."""


class Finished(NamedTuple):
    """A trial that is over, as the sampler sees it."""

    params: Params
    """Of all dimensions that were active."""

    steps: Sequence[int]
    """Numbers of the rungs that it has reached, ascending; none if it has failed."""

    values: Sequence[float]
    """Its value at each; larger is better."""

    complete: bool
    """Whether it was trained to the end."""


def optuna_module() -> Any:
    """Import Optuna.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return import_module("optuna")
    except ImportError as error:
        msg = (
            "tuning needs Optuna, which is not installed: install it with "
            "pip install 'fedapm-mpi[tune]'"
        )
        raise ConfigError(msg) from error


def ask(
    space: Space,
    finished: Sequence[Finished],
    seed: int,
    generation: int,
    count: int,
    first: Sequence[Params] = (),
) -> list[dict[str, Any]]:
    """Return the parameters of a generation's trials, those that are active.

    Parameters
    ----------
    space
        The space; only its free dimensions are sampled.
    finished
        All trials of the generations before, in their order.
    seed
        Seed of the study.
    generation
        Number of the generation.
    count
        Trials in it.
    first
        Parameters of the first trials of the first generation, such as those that are
        configured; the rest of it is a Latin hypercube.
    """
    if first and generation == 0:
        rows = [_active(space, one) for one in first[:count]]
        return rows + _stratified(space, seed, 0, count - len(rows))
    if len(finished) < MIN_STRATIFIED:
        return _stratified(space, seed, generation, count)
    return _estimated(space, finished, seed, generation, count)


def _stratified(
    space: Space, seed: int, generation: int, count: int
) -> list[dict[str, Any]]:
    """Return a Latin hypercube: each dimension's values are spread evenly on trials."""
    rng = generator(seed, STRATIFIED, generation)
    columns: dict[str, list[Any]] = {}
    for one in space.free:
        order = rng.permutation(count)
        if isinstance(one.values, Range):
            quantiles = (order + rng.random(count)) / count
            columns[one.name] = [one.values.at(float(q)) for q in quantiles]
        else:
            labels = one.labels
            first = rng.permutation(len(labels))
            columns[one.name] = [labels[first[k % len(labels)]] for k in order]
    rows = [{name: column[k] for name, column in columns.items()} for k in range(count)]
    return [_active(space, row) for row in rows]


def _estimated(
    space: Space, finished: Sequence[Finished], seed: int, generation: int, count: int
) -> list[dict[str, Any]]:
    optuna = optuna_module()
    with warnings.catch_warnings():
        # Optuna 5 warns that groups of dimensions may change, and that 6 has no gamma.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return _by_optuna(optuna, space, finished, seed, generation, count)


def _by_optuna(
    optuna: Any,
    space: Space,
    finished: Sequence[Finished],
    seed: int,
    generation: int,
    count: int,
) -> list[dict[str, Any]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    number = int(generator(seed, ESTIMATED, generation).integers(2**32))
    sampler = optuna.samplers.TPESampler(
        seed=number,
        n_startup_trials=0,
        gamma=good_ones,
        multivariate=True,
        group=True,
        constant_liar=True,  # trials of a generation keep away from each other
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in finished:
        study.add_trial(_as_told(optuna, space, trial))
    asked = []
    for _ in range(count):
        trial = study.ask()
        found: dict[str, Any] = {}
        for one in space:
            if not one.active(found):
                continue
            found[one.name] = _suggested(trial, one)
        asked.append(_active(space, found))
    return asked


def good_ones(trials: int) -> int:
    """Return how many of some trials are taken for good ones."""
    few = min(FEWEST_GOOD, ceil(trials / 4))
    return min(max(few, ceil(trials / 10)), MOST_GOOD)


def _suggested(trial: Any, dimension: Dimension) -> Any:
    if dimension.fixed:
        return dimension.labels[0]
    if not isinstance(dimension.values, Range):
        return trial.suggest_categorical(dimension.name, dimension.labels)
    range_ = dimension.values
    found = trial.suggest_float(dimension.name, range_.low, range_.high, log=range_.log)
    return range_.rounded(found)


def _as_told(optuna: Any, space: Space, trial: Finished) -> Any:
    """Return a finished trial for Optuna: complete, pruned, or without any value."""
    free = [one for one in space.free if one.name in trial.params]
    distributions = {one.name: _distribution(optuna, one) for one in free}
    state = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state=state.COMPLETE if trial.complete else state.PRUNED,
        value=trial.values[-1] if trial.complete else None,
        params={one.name: trial.params[one.name] for one in free},
        distributions=distributions,
        intermediate_values=dict(zip(trial.steps, trial.values, strict=True)),
    )


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    if isinstance(dimension.values, Range):
        range_ = dimension.values
        return optuna.distributions.FloatDistribution(
            range_.low, range_.high, log=range_.log
        )
    return optuna.distributions.CategoricalDistribution(dimension.labels)


def _active(space: Space, params: Params) -> dict[str, Any]:
    """Return the free parameters that are active."""
    whole = space.whole(params)
    return {one.name: whole[one.name] for one in space.free if one.name in whole}
