"""Read and validate configurations; rank 0 only, since its libraries are large."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from . import ownparts
from .algorithms import algorithms
from .config import PARTS, Config
from .errors import ConfigError
from .models import models
from .options import merge, parse_overrides, sentences, validate_options
from .participation import participation
from .placements import placements
from .reductions import reductions
from .registry import Registry

T = TypeVar("T")

REGISTRIES: dict[str, Registry[Any]] = {
    "model": models,
    "algorithm": algorithms,
    "participation": participation,
    "placement": placements,
    "reduction": reductions,
}
POSITIONAL = {"model": 2, "placement": 2}
"""Arguments that the package itself passes to a part, ahead of its options."""


def load(path: Path | str | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply overrides and validate all of it.

    Parameters
    ----------
    path
        The file; `None` for an empty one, to be filled by overrides.
    overrides
        Items ``key.sub=value``, applied in order.

    Raises
    ------
    ConfigError
        With every error that was found, one a line, each with the nearest valid key.
    """
    values = {} if path is None else read_yaml(Path(path))
    merge(values, parse_overrides(overrides))
    config = validate(values, str(path or "command line"))
    # So that the run can go on, or be read, from another working directory.
    start = config.initial_model
    return dataclasses.replace(
        config,
        data=str(Path(config.data).absolute()),
        initial_model=None if start is None else str(Path(start).absolute()),
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read the configuration {path}: {error.strerror or error}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path} is not valid YAML: {error}"
        raise ConfigError(msg) from error
    if not isinstance(values, dict):
        msg = f"{path} must hold keys and values, not {type(values).__name__}"
        raise ConfigError(msg)
    return values


def read_as(path: Path, kind: type[T]) -> T:
    """Return what a YAML file says as a dataclass that is not an experiment.

    Raises
    ------
    ConfigError
        With a sentence for everything that is wrong.
    """
    try:
        found: T = pydantic.TypeAdapter(kind).validate_python(read_yaml(path))
    except pydantic.ValidationError as error:
        told = "\n".join(f"  {text}" for text in sentences(error, kind))
        msg = f"{path}:\n{told}"
        raise ConfigError(msg) from error
    return found


def validate(values: Mapping[str, Any], where: str) -> Config:
    """Return a checked configuration, its parts' defaults filled in."""
    plain = dict(values)
    for key in PARTS:
        if isinstance(plain.get(key), str):
            plain[key] = {"name": plain[key]}
    plain["groups"] = _with_models(plain.get("groups"), plain.get("model"))
    errors: list[str] = []
    config: Config | None = None
    try:
        config = pydantic.TypeAdapter(Config).validate_python(plain)
    except pydantic.ValidationError as error:
        errors += sentences(error, Config)
    checked: dict[str, Any] = {}
    for key in PARTS:
        part = getattr(config, key) if config else plain.get(key)
        if isinstance(part, dict):
            checked[key], found = check_part(key, REGISTRIES[key], part)
            errors += found
    groups = []
    for k, group in enumerate(config.groups if config else ()):
        model, found = check_part(f"groups[{k}].model", models, group.model)
        groups.append(dataclasses.replace(group, model=model))
        errors += found
    if errors or config is None:
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {e}" for e in errors))
    errors = _split_errors(config)
    if errors:
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {e}" for e in errors))
    if config.split is not None and config.split.rule is not None:
        rule = ownparts.absolute(config.split.rule)
        checked["split"] = dataclasses.replace(config.split, rule=rule)
    parts: Any = checked
    return dataclasses.replace(config, groups=groups, **parts)


def check_part(
    key: str, registry: Registry[Any], part: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return a part with its defaults filled in, and sentences on what is wrong."""
    options = dict(part)
    name = options.pop("name", None)
    if not isinstance(name, str):
        return {}, [f"{key}: needs a name (known: {', '.join(registry.names())})"]
    if ownparts.is_own(name) and not ownparts.may_import():
        return dict(part), []  # nothing is known of it without its code
    name = ownparts.absolute(name)
    options = ownparts.renamed(options, ownparts.absolute)
    try:
        factory = registry.get(name)
    except ConfigError as error:
        return {}, [f"{key}: {error}"]
    positional = POSITIONAL.get(key.rpartition(".")[2], 0)
    what = f"{key} {ownparts.shown(name)!r}"
    checked, errors = validate_options(what, factory, options, positional)
    return {"name": name, **checked}, errors


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
    if config.held_by_some is not None and not config.groups:
        return ["held_by_some: there are no groups, so all hold all; remove the key"]
    name = config.algorithm["name"]
    if ownparts.is_own(name) and not ownparts.may_import():
        return []
    algorithm = algorithms.get(name)
    sharing = getattr(algorithm, "sharing", "split")
    if sharing == "split" and config.split is None:
        return [
            f"split: algorithm {name!r} needs to know which parameters are personal, "
            "for example split.personal=[head.*]"
        ]
    if sharing != "split" and config.split is not None:
        what = "every parameter" if sharing == "all" else "nothing"
        return [f"split: algorithm {name!r} shares {what}; remove it (split=null)"]
    return []
