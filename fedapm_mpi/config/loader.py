"""Read and validate configurations, on rank 0 only: the libraries are large."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from fedapm_mpi.aggregators import aggregators
from fedapm_mpi.aggregators.transforms import transforms
from fedapm_mpi.algorithms.base import algorithms, budget_options, declared_sharing
from fedapm_mpi.config.defaults import with_defaults, with_derived
from fedapm_mpi.config.former_defaults import is_resolved, with_former_defaults
from fedapm_mpi.config.overrides import (
    ALTERNATIVES,
    expand_dotted,
    merge,
    read_overrides,
)
from fedapm_mpi.config.renamed_keys import (
    algorithm_name,
    describe,
    parameter_names,
    with_new_names,
    with_new_options,
)
from fedapm_mpi.config.schema import PLUGIN_KINDS, PLUGIN_LISTS, Config
from fedapm_mpi.config.solver_options import (
    OWN_KEYS,
    check_solver_part,
    with_schedule_end,
)
from fedapm_mpi.config.split_options import written_out
from fedapm_mpi.config.validation import (
    MAX_KEY_LENGTH,
    as_json,
    format_findings,
    validate_options,
)
from fedapm_mpi.config.yaml_io import read_mapping
from fedapm_mpi.data.manifest import MANIFEST
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.metrics import metrics
from fedapm_mpi.models import models
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.optim.schedules import schedules
from fedapm_mpi.participation import participation
from fedapm_mpi.placements import placements
from fedapm_mpi.plugins.loader import may_import
from fedapm_mpi.plugins.names import absolute_name, display_name, is_user_plugin
from fedapm_mpi.registry import Registry, did_you_mean
from fedapm_mpi.tasks import tasks
from fedapm_mpi.tracking.base import loggers
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.text import format_list, format_value, truncate

log = get_logger(__name__)

T = TypeVar("T")

REGISTRIES: dict[str, Registry[Any]] = {
    "model": models,
    "algorithm": algorithms,
    "optimizer": optimizers,
    "schedule": schedules,
    "task": tasks,
    "participation": participation,
    "placement": placements,
    "aggregator": aggregators,
}
LIST_REGISTRIES: dict[str, Registry[Any]] = {
    "update_transforms": transforms,
    "metrics": metrics,
}
MAX_SENTENCE_LENGTH = 1000
"""Characters of an error on one plug-in."""

POSITIONAL = {"model": 2, "placement": 2, "logger": 1}
"""By kind: arguments that the package itself passes ahead of a plug-in's options."""

Notify = Callable[[str], None]
"""Called with a sentence that the user should read."""


def silent(text: str) -> None:
    """Drop a note."""


def print_note(text: str) -> None:
    """Print a note on standard error, for commands whose output is read by others."""
    log.warning("note: %s", text)


def load(
    path: Path | str | None,
    overrides: Sequence[str] = (),
    notify: Notify = silent,
) -> Config:
    """Read a YAML file, apply overrides and validate all of it.

    Parameters
    ----------
    path
        The file; `None` for an empty one, to be filled by overrides.
    overrides
        Items ``key.sub=value``, applied in order.
    notify
        See `resolve`.

    Raises
    ------
    ConfigError
        With every error that was found, one a line, each with the nearest valid key.
    """
    values = {} if path is None else read_yaml(Path(path))
    where = str(path or "command line")
    return resolve(values, read_overrides(overrides), where, notify)


def resolve(
    values: Mapping[str, Any],
    overrides: Sequence[tuple[str, Any]],
    where: str,
    notify: Notify = silent,
) -> Config:
    """Return the configuration that values and overrides make, checked and complete.

    Parameters
    ----------
    values
        What a configuration file says.
    overrides
        What replaces values of it, by dotted keys; see `overrides.expand_dotted`.
    where
        What errors call the place that the values come from.
    notify
        Called with a sentence for each plug-in whose options in the file are not used,
        since an override gives it another name, and with one on keys that have a new
        name by now.

    Raises
    ------
    ConfigError
        With every error that was found, one a line, each with the nearest valid key.
    """
    config, notes = validate_merged(values, overrides, where)
    for text in notes:
        notify(text)
    # So that the run can continue, or be read, from another working directory.
    start = config.initial_model
    return dataclasses.replace(
        config,
        data=str(Path(config.data).absolute()),
        initial_model=None if start is None else str(Path(start).absolute()),
    )


def use_new_names(
    values: Mapping[str, Any],
    where: str,
    keys: str = "configuration",
    algorithm: object = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return values under their new names; see `renamed_keys.with_new_names`."""
    try:
        return with_new_names(values, keys, algorithm=algorithm)
    except ConfigError as error:
        msg = f"{where}:\n{format_list([str(error)])}"
        raise ConfigError(msg) from error


def as_was_meant(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with former defaults, if they are a resolved configuration.

    Parameters
    ----------
    values
        A configuration under the names of this version, without overrides.
    """
    if not is_resolved(values):
        return dict(values)
    name, factory = algorithm_name(values), None
    if isinstance(name, str) and is_user_plugin(name) and may_import():
        try:
            factory = algorithms.get(absolute_name(name))
        except ConfigError:  # `validate` reports it
            return dict(values)
    return with_former_defaults(values, factory)


def validate_merged(
    values: Mapping[str, Any],
    overrides: Sequence[tuple[str, Any]],
    where: str,
    *,
    deep: bool = False,
) -> tuple[Config, list[str]]:
    """Return the checked configuration of values and overrides, and notes on them.

    See `resolve` and `overrides.expand_dotted`. Where a value is wrong, the error has
    the result of `unused_options` as well: an option that is missing may be one that
    was dropped.
    """
    written, renamed = use_new_names(values, where)
    written = as_was_meant(written)
    algorithm = algorithm_name(written)
    whole = alternatives(written, overrides, deep=deep)
    tree = expand_dotted(overrides, deep=deep, alternatives=whole)
    changes, more = use_new_names(tree, where, algorithm=algorithm)
    merged: dict[str, Any] = {}
    merge(merged, written)
    merge(merged, changes)
    unused = unused_options(written, merged)
    renamed = list(dict.fromkeys([*renamed, *more]))
    try:
        config = validate(merged, where)
        return config, [*([describe(renamed)] if renamed else []), *unused]
    except ConfigError as error:
        if not unused:
            raise
        msg = "\n".join([str(error), *(f"  note: {text}" for text in unused)])
        raise ConfigError(msg) from error


def alternatives(
    values: Mapping[str, Any],
    overrides: Sequence[tuple[str, Any]],
    *,
    deep: bool = False,
) -> frozenset[str]:
    """Return the dotted keys whose value replaces the old one if it is given whole.

    Of the algorithm that `values` and `overrides` name, these are the options whose
    type is `LocalBudget`: one of several ways to limit a phase. Of an algorithm that
    cannot be found, which `validate` reports, none is known.
    """
    tree = expand_dotted(overrides, deep=deep)
    given = tree.get("algorithm")
    if not isinstance(given, Mapping) or not any(
        isinstance(option, Mapping) for option in given.values()
    ):
        return ALTERNATIVES  # so nothing need be imported
    merged: dict[str, Any] = {}
    merge(merged, values)
    merge(merged, tree)
    name = algorithm_name(merged)
    if not isinstance(name, str):
        return ALTERNATIVES
    try:
        factory = algorithms.get(absolute_name(name) if is_user_plugin(name) else name)
    except ConfigError:
        return ALTERNATIVES
    return ALTERNATIVES | {f"algorithm.{key}" for key in budget_options(factory)}


def unused_options(written: Mapping[str, Any], merged: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each plug-in whose options an override of its name drops.

    Parameters
    ----------
    written
        The configuration as its file has it.
    merged
        The same with overrides; see `overrides.merge`.
    """
    found = []
    for key in PLUGIN_KINDS:
        old, new = written.get(key), merged.get(key)
        new = {"name": new} if isinstance(new, str) else new
        if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
            continue
        lost = [str(option) for option in old if option not in new]
        if lost and "name" in old and old["name"] != new.get("name"):
            found.append(
                f"{key}: {format_value(new.get('name'))} replaces "
                f"{format_value(old['name'])} of the file, whose options are not used: "
                f"{truncate(', '.join(lost), 200)}"
            )
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises
    ------
    ConfigError
        If there is no such file, or it holds something else.
    """
    try:
        folder, there = path.is_dir(), path.exists()
    except OSError as error:  # such as a name that is too long
        msg = f"cannot read the configuration {truncate(str(path))}: {error.strerror}"
        raise ConfigError(msg) from error
    if folder:
        raise ConfigError(_folder_hint(path))
    if not there:
        others = [one.name for one in path.parent.glob("*.y*ml")]
        hint = did_you_mean(path.name[:MAX_KEY_LENGTH], others)
        what = truncate(str(path), MAX_SENTENCE_LENGTH)
        msg = f"cannot read the configuration {what}: No such file or directory{hint}"
        raise ConfigError(msg)
    return read_mapping(path)


def _folder_hint(path: Path) -> str:
    """Return what to name instead of a folder that was given for a configuration."""
    if (path / MANIFEST).exists():
        return (
            f"{path} is a prepared data set, not a configuration; name a YAML file, in "
            f"which data: {path} says what to train on"
        )
    if (path / "config.yaml").exists():
        return (
            f"{path} is a run directory, not a configuration; continue the run by "
            f"--resume {path}, or repeat it from {path / 'config.yaml'}"
        )
    return f"{path} is a folder, not a configuration; name a YAML file"


def read_as(
    path: Path, kind: type[T], keys: str | None = None, notify: Notify = silent
) -> T:
    """Return the content of a YAML file as a dataclass other than `Config`.

    Parameters
    ----------
    path
        The file.
    kind
        The dataclass.
    keys
        Kind of the file in `renamed_keys.RENAMED_KEYS`; `None` if no key has a new
        name.
    notify
        Called with a sentence if the file uses old names of keys.

    Raises
    ------
    ConfigError
        With a sentence for every error.
    """
    values = read_yaml(path)
    if keys is not None:
        values, renamed = use_new_names(values, str(path), keys)
        if renamed:
            notify(f"{path}: {describe(renamed)}")
    try:
        found: T = _validated(kind, values)
    except pydantic.ValidationError as error:
        msg = f"{path}:\n{format_list(format_findings(error, kind))}"
        raise ConfigError(msg) from error
    return found


@cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _validated(kind: type[T], values: Any) -> T:
    """Return values as a dataclass; no string or boolean is taken for a number."""
    key: Any = kind
    found: T = _adapter(key).validate_json(as_json(values), strict=True)
    return found


def validate(values: Mapping[str, Any], where: str) -> Config:
    """Return a checked configuration, the defaults of its plug-ins filled in."""
    plain, _ = use_new_names(values, where)
    for key in PLUGIN_KINDS:
        if isinstance(plain.get(key), str):
            plain[key] = {"name": plain[key]}
    for key in ("loggers", *PLUGIN_LISTS):
        if isinstance(plain.get(key), list):
            plain[key] = [
                {"name": one} if isinstance(one, str) else one for one in plain[key]
            ]
    plain["split"] = written_out(plain.get("split"))
    plain["groups"] = _with_models(plain.get("groups"), plain.get("model"))
    plain, errors = with_defaults(plain)
    config: Config | None = None
    try:
        config = _validated(Config, plain)
    except pydantic.ValidationError as error:
        errors += format_findings(error, Config)
    checked: dict[str, Any] = {}
    for key in PLUGIN_KINDS:
        part = getattr(config, key) if config else plain.get(key)
        if isinstance(part, dict):
            checked[key], found = _check_part(key, part)
            errors += found
    groups = []
    for k, group in enumerate(config.groups if config else ()):
        model, found = check_plugin(f"groups[{k}].model", models, group.model)
        groups.append(dataclasses.replace(group, model=model))
        errors += found
    if config:
        checked["loggers"], found = _check_loggers(config.loggers)
        errors += found
        for key in PLUGIN_LISTS:
            named = [
                check_plugin(f"{key}[{k}]", LIST_REGISTRIES[key], part)
                for k, part in enumerate(getattr(config, key))
            ]
            checked[key] = [part for part, _ in named]
            errors += [text for _, found in named for text in found]
        checked["schedule"] = with_schedule_end(checked.get("schedule"), config.rounds)
    if errors or config is None:
        msg = f"{where}:\n{format_list(errors)}"
        raise ConfigError(msg)
    errors = _split_errors(config)
    if errors:
        msg = f"{where}:\n{format_list(errors)}"
        raise ConfigError(msg)
    if config.split is not None and config.split.rule is not None:
        rule = absolute_name(config.split.rule)
        checked["split"] = dataclasses.replace(config.split, rule=rule)
    parts: Any = checked
    return dataclasses.replace(config, groups=groups, **parts)


def _check_part(key: str, part: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a plug-in of one of `PLUGIN_KINDS`; see `check_plugin`."""
    registry = REGISTRIES[key]
    if key in OWN_KEYS:
        return check_solver_part(key, registry, part, check_plugin)
    return check_plugin(key, registry, part)


def check_plugin(
    key: str, registry: Registry[Any], part: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return a plug-in with its defaults filled in, and a sentence for each error."""
    try:
        options = registry.expand(part)
    except ConfigError as error:
        return {}, [f"{key}: {error}"]
    name = options.pop("name", None)
    if not isinstance(name, str):
        return {}, [f"{key}: needs a name (known: {', '.join(registry.names())})"]
    written = name
    try:
        name = registry.resolve(name)
        options = _resolved(options, registry)
        if is_user_plugin(name) and not may_import():
            return {
                **part,
                "name": name,
            }, []  # its options are unknown without its code
        # By the name of an entry point, an error names its distribution.
        factory = registry.get(name if is_user_plugin(written) else written)
    except ConfigError as error:
        text = truncate(str(error), MAX_SENTENCE_LENGTH)
        return {}, [text if text.startswith(f"{key} ") else f"{key}: {text}"]
    if key == "algorithm" and is_user_plugin(name):
        options = with_new_options(options, parameter_names(factory))
    positional = POSITIONAL.get(registry.kind, 0)
    what = f"{key} {format_value(display_name(name))}"
    checked, errors = validate_options(what, factory, options, positional)
    if key == "algorithm" and not errors:
        checked = with_derived(factory, checked)
    return {"name": name, **checked}, errors


def _resolved(options: Any, registry: Registry[Any]) -> Any:
    """Return options in which the names of plug-ins, at any depth, are resolved.

    A plug-in under the key of another kind is of that kind, else of its holder's.
    """
    if isinstance(options, list):
        return [_resolved(one, registry) for one in options]
    if not isinstance(options, Mapping):
        return options
    found = {
        key: _resolved(value, REGISTRIES.get(key, registry))
        for key, value in options.items()
    }
    if isinstance(found.get("name"), str):
        found = registry.expand(found)
        found["name"] = registry.resolve(found["name"])
    return found


def _check_loggers(
    parts: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return loggers with their defaults filled in, and sentences on what is wrong."""
    checked: list[dict[str, Any]] = []
    errors: list[str] = []
    for k, part in enumerate(parts):
        logger, found = check_plugin(f"loggers[{k}]", loggers, part)
        errors += found
        if logger and logger in checked:
            errors.append(f"loggers[{k}]: {part['name']!r} is named twice; remove one")
        checked.append(logger)
    if all(part.get("name") != "jsonl" for part in parts):
        errors.append(
            "loggers: jsonl cannot be left out: --resume, summary.json and reports "
            "read the rounds.jsonl that it writes; add it"
        )
    return checked, errors


def _with_models(groups: Any, base: Any) -> Any:
    """Return groups with whole models, as far as they are written as they should be."""
    if not isinstance(groups, list):
        return groups or []

    def whole(group: Any) -> Any:
        if not isinstance(group, Mapping):
            return group
        model = group.get("model") or {}
        if isinstance(model, str):
            model = {"name": model}
        if isinstance(model, Mapping) and isinstance(base, dict):
            model = dict(model) if "name" in model else {**base, **model}
        return {**group, "model": model}

    return [whole(group) for group in groups]


def _split_errors(config: Config) -> list[str]:
    if config.partially_shared is not None and not config.groups:
        return [
            "partially_shared: there are no groups, so every client has every "
            "parameter; remove the key"
        ]
    name = config.algorithm["name"]
    if is_user_plugin(name) and not may_import():
        return []
    sharing = declared_sharing(algorithms.get(name))
    if sharing != "split" and config.split is not None:
        what = "every parameter" if sharing == "all" else "nothing"
        return [f"split: algorithm {name!r} shares {what}; remove it (split=null)"]
    return []
