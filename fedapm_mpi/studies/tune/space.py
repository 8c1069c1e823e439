"""The space of a search: what may vary, and the configuration that a choice makes.

A space is a list of dimensions. Each sets one key of the configuration, either to one
of several choices or to a number in a range; some are active only under certain choices
of another one. A YAML file narrows, widens or fixes it, key by key:

    algorithm.rho: {low: 0.1, high: 1}       # a range, log-uniform unless log: false
    optimizer: [adam, {name: sgd, momentum: 0.9}]      # choices
    evaluation.fine_tune: null               # fixed
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_value

Params = Mapping[str, Any]
"""By name of a dimension: the label of a choice, or a number. Those of dimensions that
are not active are missing."""

DIGITS = 3
"""Significant digits of a number that is sampled, so that people can read it."""

RANGE_KEYS = ("low", "high", "log", "times", "over")
"""Keys of a range in a YAML file."""

MAX_KEY_LENGTH = 60
"""Characters of an unknown key that are compared with those that are known."""


@dataclass(frozen=True)
class Choice:
    """One of the values of a dimension."""

    label: str
    """Its name in tables; unique within the dimension."""

    value: Any
    """Value of the dimension's key."""

    also: Mapping[str, Any] = field(default_factory=dict)
    """Further keys that go with it, and their values."""

    size: int | None = None
    """Personal parameters, if it is a split."""


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`."""

    low: float
    high: float
    log: bool = True
    """Whether equal ratios, not differences, are equally likely."""

    times: str | None = None
    """Key whose value the number is multiplied by."""

    over: str | None = None
    """Key whose value the number is divided by."""

    def __post_init__(self) -> None:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            msg = f"low must be below high, got {self.low:g} and {self.high:g}"
            raise ValueError(msg)
        if self.log and not self.low > 0:
            msg = f"low must be above 0 unless log is false, got {self.low:g}"
            raise ValueError(msg)
        if self.times is not None and self.over is not None:
            msg = "give one of times and over"
            raise ValueError(msg)

    def at(self, quantile: float) -> float:
        """Return the number below which a share `quantile` of the range lies."""
        if self.log:
            ends = math.log(self.low), math.log(self.high)
            return self.rounded(math.exp(ends[0] + quantile * (ends[1] - ends[0])))
        return self.rounded(self.low + quantile * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """Return a number of few digits that is within the range."""
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Dimension:
    """What may vary of one key."""

    name: str
    """The key, with a suffix in brackets where several dimensions set it."""

    key: str
    """Dotted key of the configuration."""

    values: tuple[Choice, ...] | Range
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By name of an earlier dimension: labels under which this one is active."""

    @property
    def labels(self) -> list[str]:
        """The labels of the choices; none for a range."""
        return [] if isinstance(self.values, Range) else [c.label for c in self.values]

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.labels) == 1

    def choice(self, label: str) -> Choice:
        """Return a choice by its label."""
        assert not isinstance(self.values, Range)
        return next(choice for choice in self.values if choice.label == label)

    def active(self, params: Params) -> bool:
        """Return whether it counts under what has been chosen before."""
        return all(params.get(name) in labels for name, labels in self.when.items())


class Space:
    """Dimensions in an order in which none depends on a later one."""

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self.dimensions = list(dimensions)

    def __iter__(self) -> Any:
        return iter(self.dimensions)

    @property
    def free(self) -> list[Dimension]:
        """The dimensions in which there is something to choose."""
        return [one for one in self.dimensions if not one.fixed]

    def whole(self, params: Params) -> dict[str, Any]:
        """Return the active ones of some parameters, with those that are fixed."""
        found: dict[str, Any] = {}
        for one in self.dimensions:
            if one.active(found):
                found[one.name] = one.labels[0] if one.fixed else params[one.name]
        return found

    def configuration(self, base: Mapping[str, Any], params: Params) -> dict[str, Any]:
        """Return the plain configuration that parameters make of another one.

        Parameters
        ----------
        base
            The plain, resolved configuration of the study; it is not changed.
        params
            See `whole`.
        """
        values = deepcopy(dict(base))
        chosen = self.whole(params)
        for one in self.dimensions:
            if one.name not in chosen:
                continue
            value = chosen[one.name]
            if isinstance(one.values, Range):
                set_key(values, one.key, _scaled(one.values, value, values))
            else:
                choice = one.choice(value)
                set_key(values, one.key, deepcopy(choice.value))
                for key, more in choice.also.items():
                    set_key(values, key, deepcopy(more))
        return values

    def personal_size(self, params: Params) -> int:
        """Return the personal parameters of the chosen split; 0 if none is chosen."""
        for one in self.dimensions:
            if one.key == "split" and one.name in params:
                return one.choice(params[one.name]).size or 0
        return 0

    def nearest(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters that come nearest to what is configured, all of them.

        Parameters
        ----------
        base
            A plain configuration. A value that is none of the choices counts as the
            first of them; one outside of a range as its end.
        """
        found: dict[str, Any] = {}
        for one in self.dimensions:
            value = get_key(base, one.key)
            if isinstance(one.values, Range):
                found[one.name] = _within(one.values, value, base)
            else:
                same = [c.label for c in one.values if _is_configured(c.value, value)]
                found[one.name] = (same or one.labels)[0]
        return found

    def plain(self) -> list[dict[str, Any]]:
        """Return the space as plain values, to record and to compare."""
        return [
            {
                "name": one.name,
                "key": one.key,
                "when": {name: list(labels) for name, labels in one.when.items()},
                **(
                    {"range": vars(one.values)}
                    if isinstance(one.values, Range)
                    else {
                        "choices": [
                            {"label": c.label, "value": c.value, "also": dict(c.also)}
                            for c in one.values
                        ]
                    }
                ),
            }
            for one in self.dimensions
        ]


def written(space: Space) -> dict[str, Any]:
    """Return a space as a YAML file gives it, by name of a dimension."""
    found: dict[str, Any] = {}
    for one in space:
        if isinstance(one.values, Range):
            values = vars(one.values)
            found[one.name] = {k: v for k, v in values.items() if v is not None}
            continue
        whole = [_written(one, choice) for choice in one.values]
        found[one.name] = whole[0] if one.fixed else whole
    return found


def _written(dimension: Dimension, choice: Choice) -> Any:
    """Return what stands for a choice: its label, if it is a split that has one."""
    return choice.label if dimension.key == "split" else choice.value


def _within(range_: Range, value: Any, base: Mapping[str, Any]) -> float:
    """Return the number of a range that is nearest to a configured one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return range_.at(0.5)
    if range_.times is not None:
        value /= float(get_key(base, range_.times))
    elif range_.over is not None:
        value *= float(get_key(base, range_.over))
    return range_.rounded(float(value))


def _is_configured(value: Any, configured: Any) -> bool:
    """Return whether a choice is what is configured, where defaults are filled in."""
    if isinstance(value, Mapping) and isinstance(configured, Mapping):
        given = {key: one for key, one in configured.items() if one is not None}
        return all(_is_configured(one, given.get(key)) for key, one in value.items())
    if isinstance(value, list | tuple) and isinstance(configured, list | tuple):
        return list(value) == list(configured)
    return bool(value == configured)


def _scaled(range_: Range, value: float, values: Mapping[str, Any]) -> float:
    """Return a number in units of another key's value."""
    if range_.times is not None:
        value *= float(get_key(values, range_.times))
    elif range_.over is not None:
        value /= float(get_key(values, range_.over))
    else:
        return value
    return float(f"{value:.{DIGITS}g}")


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of nested plain values; what is not there is made."""
    *parents, last = key.split(".")
    for parent in parents:
        inside = values.get(parent)
        values[parent] = values = dict(inside) if isinstance(inside, Mapping) else {}
    values[last] = value


def get_key(values: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key; `None` where there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def label_of(value: Any) -> str:
    """Return a short name of a value."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        if "name" in value:
            more = [f"{k}={label_of(v)}" for k, v in value.items() if k != "name"]
            return " ".join([str(value["name"]), *more])
        return " ".join(f"{k}={label_of(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "+".join(map(label_of, value)) or "nothing"
    return f"{value:g}" if isinstance(value, float) else str(value)


def choices_of(values: Sequence[Any]) -> tuple[Choice, ...]:
    """Return choices of plain values; equal ones are kept once."""
    found: list[Choice] = []
    for value in values:
        if all(one.value != value for one in found):
            found.append(Choice(label_of(value), value))
    return tuple(found)


def narrowed(
    dimension: Dimension, given: Any, where: str, labels_only: bool = False
) -> Dimension:
    """Return a dimension with the values that a YAML file gives for it.

    Parameters
    ----------
    dimension
        The default one.
    given
        A mapping with low and high, a list of choices, or a single value. A text that
        is the label of a default choice stands for that one.
    where
        The key, for messages.
    labels_only
        Whether a text that is no label is a mistake.

    Raises
    ------
    ConfigError
        If it is not valid.
    """
    if is_range(given):
        return replace(dimension, values=range_of(given, where))
    many = given if isinstance(given, list) else [given]
    if not many:
        msg = f"{where}: it has no values; give some, or leave the key out"
        raise ConfigError(msg)
    known = () if isinstance(dimension.values, Range) else dimension.values
    found: list[Choice] = []
    for value in many:
        same = [c for c in known if value in (c.label, c.value)]
        if not same and labels_only and isinstance(value, str):
            names = [choice.label for choice in known]
            msg = (
                f"{where}: there is no {format_value(value)}"
                f"{did_you_mean(value[:MAX_KEY_LENGTH], names)} "
                f"(known: {', '.join(names)}; others as {{personal: [PATTERNS]}})"
            )
            raise ConfigError(msg)
        choice = same[0] if same else Choice(label_of(value), value)
        if all(choice.label != one.label for one in found):
            found.append(choice)
    return replace(dimension, values=tuple(found))


def is_range(given: Any) -> bool:
    """Return whether a value of a YAML file is a range."""
    return isinstance(given, Mapping) and {"low", "high"} & given.keys() != set()


def range_of(given: Mapping[str, Any], where: str) -> Range:
    """Return the range that a YAML file gives.

    Raises
    ------
    ConfigError
        If it is not valid.
    """
    for key in given:
        if key not in RANGE_KEYS:
            near = did_you_mean(str(key)[:MAX_KEY_LENGTH], list(RANGE_KEYS))
            msg = (
                f"{where}: a range has no {format_value(key)}{near} "
                f"(known: {', '.join(RANGE_KEYS)})"
            )
            raise ConfigError(msg)
    for key in ("low", "high"):
        value = given.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            msg = f"{where}: {key} must be a number, got {format_value(value)}"
            raise ConfigError(msg)
    for key, kind in (("log", bool), ("times", str), ("over", str)):
        if not isinstance(given.get(key, kind()), kind):
            what = "true or false" if kind is bool else "a key"
            msg = f"{where}: {key} must be {what}, got {format_value(given[key])}"
            raise ConfigError(msg)
    try:
        return Range(
            float(given["low"]),
            float(given["high"]),
            log=given.get("log", True),
            times=given.get("times"),
            over=given.get("over"),
        )
    except ValueError as error:
        msg = f"{where}: {error}"
        raise ConfigError(msg) from error
