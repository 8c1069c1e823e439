"""Check the optimizer and the schedule of a configuration, which may differ by block.

``optimizer: {name: adam, personal: {name: sgd}}`` gives a block another plug-in;
``{name: adam, personal: {eps: 1.0e-6}}`` gives it other options of the same one.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fedapm_mpi.registry import Registry, did_you_mean
from fedapm_mpi.utils.text import format_value

BLOCKS = ("personal", "shared")

OWN_KEYS = {
    "optimizer": ("state",),
    "schedule": ("warmup", "rounds", "unit"),
}
"""By part of the configuration: its keys that are no options of the plug-in."""

BY_BLOCK = ("warmup",)
"""Own keys that a block may have for itself."""

CheckPlugin = Callable[
    [str, Registry[Any], Mapping[str, Any]], tuple[dict[str, Any], list[str]]
]
"""`loader.check_plugin`."""


def check_solver_part(
    key: str, registry: Registry[Any], part: Mapping[str, Any], check: CheckPlugin
) -> tuple[dict[str, Any], list[str]]:
    """Return an optimizer or a schedule with its defaults, and a sentence per error.

    Parameters
    ----------
    key
        ``optimizer`` or ``schedule``.
    registry
        Of its plug-ins.
    part
        As it is written.
    check
        Checks a plug-in's own options.
    """
    own = OWN_KEYS[key]
    options = {k: v for k, v in part.items() if k not in (*own, *BLOCKS)}
    checked, errors = _check(key, registry, options, check)
    general, found = _check_own(key, part)
    errors += found
    blocks: dict[str, Any] = {}
    for block in BLOCKS:
        if block not in part:
            continue
        where, override = f"{key}.{block}", part[block]
        if isinstance(override, str):
            override = {"name": override}
        if not isinstance(override, Mapping):
            errors.append(
                f"{where}: give a mapping of options, got {format_value(override)}"
            )
            continue
        apart = {k: v for k, v in override.items() if k in own}
        rest = {k: v for k, v in override.items() if k not in own}
        foreign = [k for k in apart if k not in BY_BLOCK]
        errors += [
            f"{where}.{k}: holds for both blocks; see {key}.{k}" for k in foreign
        ]
        if rest.get("name", part.get("name")) == part.get("name"):
            rest = {**options, **rest}
        whole, found = _check(where, registry, rest, check)
        errors += found
        again = {k: apart.get(k, general.get(k)) for k in own if k in BY_BLOCK}
        values, found = _check_own(key, again, where)
        errors += found
        blocks[block] = whole | {k: values[k] for k in again if k in values}
    return {**checked, **general, **blocks}, errors


def with_schedule_end(
    schedule: Mapping[str, Any] | None, rounds: int
) -> dict[str, Any] | None:
    """Return a checked schedule that ends with the run, unless it says when it ends.

    As a number, so that a run that is continued for more rounds keeps its step sizes.
    """
    if schedule is None:
        return None
    end = schedule.get("rounds")
    return {**schedule, "rounds": rounds if end is None else end}


def _check(
    where: str, registry: Registry[Any], options: Mapping[str, Any], check: CheckPlugin
) -> tuple[dict[str, Any], list[str]]:
    """Return a plug-in with its defaults, built once so that its own checks count."""
    key = where.partition(".")[0]
    if key == "optimizer" and "lr" in options:
        return {}, [
            f"{where}.lr: step sizes are options of the algorithm, such as "
            "algorithm.lr_shared; remove it"
        ]
    checked, errors = check(where, registry, options)
    if errors:
        others = ", ".join((*OWN_KEYS[key], *BLOCKS))
        return {}, [
            f"{text}; {key} itself has {others}" if "unknown key" in text else text
            for text in errors
        ]
    try:
        registry.get(checked["name"])(**{k: checked[k] for k in checked if k != "name"})
    except (ValueError, TypeError) as error:
        return {}, [f"{where}: {error}"]
    return checked, []


def _check_own(
    key: str, part: Mapping[str, Any], where: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return the keys of a part that are no options of its plug-in, and errors."""
    where = where or key
    if key == "optimizer":
        state = part.get("state", "reset")
        if state not in ("reset", "keep"):
            near = did_you_mean(str(state), ["reset", "keep"])
            return {}, [f"{where}.state: must be reset or keep{near}"]
        return {"state": state}, []
    errors = []
    warmup, rounds = part.get("warmup", 0), part.get("rounds")
    if isinstance(warmup, bool) or not isinstance(warmup, int | float) or warmup < 0:
        errors.append(f"{where}.warmup: must be rounds from 0 on, got {warmup!r}")
    if rounds is not None and (type(rounds) is not int or rounds < 1):
        errors.append(f"{where}.rounds: must be an integer from 1 on, got {rounds!r}")
    unit = part.get("unit", "round")
    if unit not in ("round", "step"):
        near = did_you_mean(str(unit), ["round", "step"])
        errors.append(f"{where}.unit: must be round or step{near}")
    return {"warmup": warmup, "rounds": rounds, "unit": unit}, errors
