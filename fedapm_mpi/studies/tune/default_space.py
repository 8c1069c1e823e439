"""The space of a study: what the method and the model offer, changed by a YAML file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.federation import build_algorithm, client_weights
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.studies.tune.method_space import (
    fine_tuning_dimensions,
    method_dimensions,
    solver_dimensions,
)
from fedapm_mpi.studies.tune.space import (
    MAX_KEY_LENGTH,
    Dimension,
    Params,
    Range,
    Space,
    choices_of,
    get_key,
    is_range,
    narrowed,
    range_of,
)
from fedapm_mpi.studies.tune.splits import split_dimension

NOT_SEARCHED = {
    "algorithm": "a study is of one method; name its options, such as algorithm.rho",
    "algorithm.name": "a study is of one method",
    "data": "a study is of one data set",
    "rounds": "rounds follow from the budget, --passes, and the local work",
    "schedule.rounds": "a schedule ends with the rounds of a trial",
    "seed": "every trial has the seed of the configuration",
    "replicate": "every trial has the replicate of the configuration",
    "kernels": "every trial has the kernels of the configuration",
    "stacked": "every trial is stacked as the configuration says",
    "evaluation.split": "trials are compared on validation parts",
    "evaluation.every": "trials are evaluated where they are compared",
    "checkpoint": "trials are saved where they are compared",
    "loggers": "trials have the loggers of the configuration",
}
"""Keys that no space has, and why."""


def build_space(config: Config, manifest: Manifest, given: Mapping[str, Any]) -> Space:
    """Return the space of a study, checked.

    Parameters
    ----------
    config
        The configuration of the study.
    manifest
        Data of its clients.
    given
        What a YAML file says: by dotted key a range, a list of choices, or a value. A
        key in brackets, such as ``algorithm.lr[adaptive]``, is one of several default
        dimensions of a key.

    Raises
    ------
    ConfigError
        If a key or a value is not valid; each with the nearest that is.
    """
    base = config.plain()
    for key, reason in NOT_SEARCHED.items():
        if key in given:
            msg = f"{key}: cannot be searched: {reason}; remove the key"
            raise ConfigError(msg)
    left = dict(given)
    algorithm = build_algorithm(config.algorithm)
    found: list[Dimension] = []
    if algorithm.sharing == "split":
        split = split_dimension(config, manifest, algorithm)
        found.append(_narrowed(split, left))
        _refuse_auto(found[0])
    optimizer, schedule = (_narrowed(one, left) for one in solver_dimensions(base))
    found += [optimizer, schedule]
    everyone = config.participation["name"] == "full"
    unit = _unit(config, manifest)
    more = method_dimensions(base, optimizer, everyone=everyone, unit=unit)
    more += fine_tuning_dimensions(base)
    found += _with_given(more, left)
    found += [_new(key, value) for key, value in left.items()]
    scaled = [one for one in found if _scale_of(one) is not None]
    ordered = [one for one in found if _scale_of(one) is None] + scaled
    space = Space(_live(ordered))
    for one in scaled:
        _check_scale(one, base, space)
    return Space(_live(_usable(space, base, given)))


def _refuse_auto(split: Dimension) -> None:
    """Refuse splits that are chosen by training, which no budget counts."""
    assert not isinstance(split.values, Range)
    for choice in split.values:
        chosen = choice.value
        if chosen == "auto" or (isinstance(chosen, Mapping) and "auto" in chosen):
            msg = (
                "split: auto trains to choose, which the budget does not count; the "
                "search tries the same candidates"
            )
            raise ConfigError(msg)


def _narrowed(dimension: Dimension, left: dict[str, Any]) -> Dimension:
    """Return a dimension as the file has it, which then has it no longer."""
    if dimension.name not in left:
        return dimension
    key, value = dimension.name, left.pop(dimension.name)
    return narrowed(dimension, value, key, labels_only=key == "split")


def _with_given(
    dimensions: Sequence[Dimension], left: dict[str, Any]
) -> list[Dimension]:
    """Return dimensions as the file has them, which then has them no longer."""
    several = {
        one.key
        for one in dimensions
        if sum(other.key == one.key for other in dimensions) > 1
    }
    whole = {key: left.pop(key) for key in list(left) if key in several}
    found = []
    for one in dimensions:
        if one.key not in whole:
            found.append(_narrowed(one, left))
        elif all(other.key != one.key for other in found):
            merged = replace(one, name=one.key, when={})
            found.append(narrowed(merged, whole[one.key], one.key))
    for key in left:
        if "[" in key:
            names = [one.name for one in dimensions]
            near = did_you_mean(key[:MAX_KEY_LENGTH], names)
            msg = f"{key}: there is no such dimension{near}"
            raise ConfigError(msg)
    return found


def _new(key: str, value: Any) -> Dimension:
    """Return a dimension that only the file has."""
    if is_range(value):
        return Dimension(key, key, range_of(value, key))
    many = value if isinstance(value, list) else [value]
    if not many:
        msg = f"{key}: it has no values; give some, or leave the key out"
        raise ConfigError(msg)
    return Dimension(key, key, choices_of(many))


def _scale_of(dimension: Dimension) -> str | None:
    """Return the key in whose units a range is, if any."""
    if not isinstance(dimension.values, Range):
        return None
    return dimension.values.times or dimension.values.over


def _check_scale(dimension: Dimension, base: Mapping[str, Any], space: Space) -> None:
    scale = _scale_of(dimension)
    assert scale is not None
    others = [one.key for one in space if _scale_of(one) is None]
    value = get_key(base, scale)
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if scale not in others and not known:
        near = did_you_mean(scale[:MAX_KEY_LENGTH], others)
        msg = f"{dimension.name}: {scale} is not a number of the configuration{near}"
        raise ConfigError(msg)


def _unit(config: Config, manifest: Manifest) -> float:
    """Return the mean weight of a client, if local problems are weighted, else 1."""
    if config.algorithm.get("units") != "weighted":
        return 1.0
    return float(client_weights(config, manifest).mean())


def _live(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """Return the dimensions that are active under some of the choices that are left."""
    labels: dict[str, list[str]] = {}
    found = []
    for one in dimensions:
        when = {
            name: tuple(label for label in wanted if label in labels.get(name, ()))
            for name, wanted in one.when.items()
        }
        if all(when.values()):
            labels[one.name] = one.labels
            found.append(replace(one, when=when))
    return found


def _usable(
    space: Space, base: Mapping[str, Any], given: Mapping[str, Any]
) -> list[Dimension]:
    """Return the dimensions without the values that the configuration excludes.

    What the file gives must be valid.

    Raises
    ------
    ConfigError
        If it is not.
    """
    kept = []
    for one in space:
        good, error = [], None
        for value in _samples(one):
            alone, params = _alone(space, one, value)
            try:
                validate(alone.configuration(base, params), "space")
                good.append(value)
            except ConfigError as caught:
                error = caught
                if one.name in given or one.key in given:
                    msg = f"{one.name}: {_brief(caught)}"
                    raise ConfigError(msg) from caught
        if isinstance(one.values, Range):
            kept += [] if error else [one]
        elif good:
            kept.append(replace(one, values=tuple(map(one.choice, good))))
    return kept


def _samples(dimension: Dimension) -> list[Any]:
    """Return the values of a dimension with which it is tried."""
    if isinstance(dimension.values, Range):
        return [dimension.values.low, dimension.values.high]
    return list(dimension.labels)


def _alone(space: Space, dimension: Dimension, value: Any) -> tuple[Space, Params]:
    """Return a space in which only one dimension counts, and parameters of it.

    Further dimensions are those under whose choices alone it is active. All others are
    left out, so that what is wrong is wrong of this one.
    """
    needed = []
    for one in space:
        labels = dimension.when.get(one.name)
        if labels is not None:
            needed.append(replace(one, values=(one.choice(labels[0]),), when={}))
    return Space([*needed, dimension]), {dimension.name: value}


def _brief(error: ConfigError) -> str:
    """Return the sentences of an error without the line that names the place."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(lines[1:] or lines)
