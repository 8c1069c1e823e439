"""Keys that an older version called otherwise; files that use the old names are read.

Saved runs, checkpoints, sweeps and studies hold configurations as well, so a name that
was once released in one of them is never removed here.
"""

import inspect
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins.names import is_user_plugin


class RenamedKey(NamedTuple):
    """An old key and its new name."""

    path: str
    """The old key, with dots; ``[]`` stands for every item of a list."""

    name: str
    """The new name of its last part."""

    values: Mapping[str, str] = {}
    """New names of its values."""


BALANCING = "algorithm.residual_balancing"

RENAMED_KEYS: dict[str, tuple[RenamedKey, ...]] = {
    "configuration": (
        RenamedKey("dealing", "scheduling", {"node": "dynamic", "rank": "static"}),
        RenamedKey("reduction", "aggregator"),
        RenamedKey("held_by_some", "partially_shared"),
        RenamedKey("stage", "stage_dir"),
        RenamedKey("evaluation.shared", "shared_block"),
        RenamedKey("groups[].lacks", "missing_inputs"),
        RenamedKey("algorithm.balance", "residual_balancing"),
        RenamedKey(f"{BALANCING}.smallest", "rho_min"),
        RenamedKey(f"{BALANCING}.largest", "rho_max"),
    ),
    "study": (
        RenamedKey("change", "overrides"),
        RenamedKey("warm_up", "warmup_rounds"),
        RenamedKey("cores", "cpus_per_rank"),
    ),
    "site": (
        RenamedKey("cores", "cpus_per_task"),
        RenamedKey("memory", "mem"),
        RenamedKey("gpu_binding", "gpu_bind"),
    ),
}
"""Old keys by the kind of file, in the order in which they are replaced."""

RENAMED_OPTIONS = {
    "balance": "residual_balancing",
    "smallest": "rho_min",
    "largest": "rho_max",
}
"""Old options of algorithms from which a user's own may inherit, and of their parts."""

OLD_PLUGIN_KINDS = ("reduction",)
"""Old keys whose values are plug-ins, see `config.schema.PLUGIN_KINDS`."""


def with_new_names(
    values: Mapping[str, Any],
    kind: str = "configuration",
    *,
    algorithm: object = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return values under the keys of this version.

    Parameters
    ----------
    values
        What a file or an override says. It is not changed, nor checked.
    kind
        The kind of file, a key of `RENAMED_KEYS`.
    algorithm
        Name of the algorithm that the values are for, where they do not name it. A
        user's own may have an option of any name, so those are left as they are.

    Returns
    -------
    dict
        The values. Mappings in it keep their class.
    list of str
        For each old key that was found a piece of a sentence: what it is called now.

    Raises
    ------
    ConfigError
        If a key is given by its old and by its new name.
    """
    notes: list[str] = []
    found: Any = values
    own = is_user_plugin(algorithm_name(values) or algorithm)
    for key in RENAMED_KEYS[kind]:
        if not (own and key.path.startswith("algorithm.")):
            found = _renamed(found, key.path.split("."), "", key, notes)
    return (found if found is not values else dict(values)), list(dict.fromkeys(notes))


def with_new_options(
    options: Mapping[str, Any], accepted: Container[str]
) -> dict[str, Any]:
    """Return an algorithm's options, each by the name that its factory accepts.

    For a user's own algorithm, which may inherit options that have a new name by now.
    """
    found: dict[str, Any] = {}
    for key, value in options.items():
        new = RENAMED_OPTIONS.get(key, key)
        if key in accepted or new not in accepted or new in options:
            found[key] = value
            continue
        inside = value.items() if isinstance(value, Mapping) else ()
        parts = {RENAMED_OPTIONS.get(name, name): one for name, one in inside}
        found[new] = parts if isinstance(value, Mapping) else value
    return found


def parameter_names(factory: Callable[..., Any]) -> set[str]:
    """Return the names of a factory's parameters; none where it does not say them."""
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return set()


def describe(notes: list[str]) -> str:
    """Return the sentence that says what keys are called now."""
    return f"old names of keys are still read, but {'; '.join(notes)}"


def algorithm_name(values: Mapping[str, Any]) -> Any:
    """Return the name of the algorithm in values, if they have one."""
    part = values.get("algorithm")
    return part.get("name") if isinstance(part, Mapping) else part


def _renamed(
    values: Any, steps: list[str], prefix: str, key: RenamedKey, notes: list[str]
) -> Any:
    """Return values in which one old key has its new name; themselves without it."""
    step, *rest = steps
    name = step.removesuffix("[]")
    if not isinstance(values, Mapping) or name not in values:
        return values
    inside = values[name]
    if not rest:
        return _replaced(values, name, prefix, key, notes)
    if name != step:
        if not isinstance(inside, list):
            return values
        new: Any = [
            _renamed(one, rest, f"{prefix}{name}[{k}].", key, notes)
            for k, one in enumerate(inside)
        ]
    else:
        new = _renamed(inside, rest, f"{prefix}{name}.", key, notes)
    return type(values)({**values, name: new})  # type: ignore[call-arg]


def _replaced(
    values: Mapping[str, Any], name: str, prefix: str, key: RenamedKey, notes: list[str]
) -> Any:
    """Return values with a key replaced where it stands, and note it."""
    if key.name in values:
        msg = (
            f"{prefix}{name}: this is the old name of {prefix}{key.name}, which is "
            "given as well; remove one of them"
        )
        raise ConfigError(msg)
    old = values[name]
    new = key.values.get(old, old) if isinstance(old, str) else old
    text = f"{prefix}{name} is now {prefix}{key.name}"
    notes.append(text if new == old else f"{text}, and its value {old} is now {new}")
    pairs = ((key.name, new) if k == name else (k, v) for k, v in values.items())
    return type(values)(pairs)  # type: ignore[call-arg]
