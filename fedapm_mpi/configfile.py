"""Read and validate configurations; rank 0 only, since its libraries are large."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from .algorithms import algorithms
from .config import PARTS, Config
from .errors import ConfigError
from .models import models
from .participation import participation
from .placements import placements
from .reductions import reductions
from .registry import Registry, did_you_mean

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
    return validate(values, str(path or "command line"))


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


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """Return ``["a.b=1", ...]`` as nested values, each read as YAML.

    Raises
    ------
    ConfigError
        If an item has no ``=`` or its value is not YAML.
    """
    values: dict[str, Any] = {}
    for item in items:
        dotted, equals, text = item.partition("=")
        if not equals or not dotted:
            msg = f"override {item!r} is not of the form key=value or key.sub=value"
            raise ConfigError(msg)
        try:
            value = yaml.safe_load(text) if text else None
        except yaml.YAMLError as error:
            msg = f"override {item!r}: the value is not valid YAML ({error})"
            raise ConfigError(msg) from error
        nested: Any = value
        for key in reversed(dotted.split(".")):
            nested = {key: nested}
        merge(values, nested)
    return values


def merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Merge nested values in place; the later ones win.

    A part that was given by its bare name becomes a mapping when an option follows.
    """
    for key, value in other.items():
        old = into.get(key)
        if isinstance(value, Mapping):
            if isinstance(old, str):
                old = {"name": old}
            nested: dict[str, Any] = dict(old) if isinstance(old, Mapping) else {}
            merge(nested, value)
            into[key] = nested
        else:
            into[key] = value


def validate(values: Mapping[str, Any], where: str) -> Config:
    """Return a checked configuration, its parts' defaults filled in."""
    plain = dict(values)
    for key in PARTS:
        if isinstance(plain.get(key), str):
            plain[key] = {"name": plain[key]}
    errors: list[str] = []
    config: Config | None = None
    try:
        config = pydantic.TypeAdapter(Config).validate_python(plain)
    except pydantic.ValidationError as error:
        errors += _sentences(error, Config)
    checked: dict[str, dict[str, Any]] = {}
    for key in PARTS:
        part = getattr(config, key) if config else plain.get(key)
        if isinstance(part, dict):
            checked[key], found = check_part(key, REGISTRIES[key], part)
            errors += found
    if errors or config is None:
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {e}" for e in errors))
    errors = _split_errors(config)
    if errors:
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {e}" for e in errors))
    parts: Any = checked
    return dataclasses.replace(config, **parts)


def check_part(
    key: str, registry: Registry[Any], part: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return a part with its defaults filled in, and sentences on what is wrong."""
    options = dict(part)
    name = options.pop("name", None)
    if not isinstance(name, str):
        return {}, [f"{key}: needs a name (known: {', '.join(registry.names())})"]
    try:
        factory = registry.get(name)
    except ConfigError as error:
        return {}, [f"{key}: {error}"]
    checked, errors = validate_options(
        f"{key} {name!r}", factory, options, POSITIONAL.get(key, 0)
    )
    return {"name": name, **checked}, errors


def validate_options(
    what: str, factory: Callable[..., Any], options: Mapping[str, Any], positional: int
) -> tuple[dict[str, Any], list[str]]:
    """Check a part's options against its signature.

    Parameters
    ----------
    what
        The part, for messages.
    factory
        Its callable; a dataclass is also built once, so that its own checks count.
    options
        The options as written.
    positional
        Leading parameters that are not options.

    Returns
    -------
    dict
        The options as plain values, defaults filled in.
    list of str
        One sentence for each error.
    """
    fields, takes_any = _signature_fields(factory, positional)
    config = pydantic.ConfigDict(
        extra="allow" if takes_any else "forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )
    schema = pydantic.create_model("Options", __config__=config, **fields)
    try:
        checked = schema.model_validate(dict(options))
    except pydantic.ValidationError as error:
        return {}, _sentences(error, schema, f"{what}: ")
    plain: dict[str, Any] = checked.model_dump()
    if dataclasses.is_dataclass(factory):
        try:
            factory(**plain)
        except (ValueError, TypeError) as error:
            return {}, [f"{what}: {error}"]
    return plain, []


def _signature_fields(
    factory: Callable[..., Any], positional: int
) -> tuple[dict[str, Any], bool]:
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(target)
    except (NameError, TypeError):
        hints = {}
    parameters = list(inspect.signature(factory).parameters.values())[positional:]
    fields: dict[str, Any] = {}
    takes_any = False
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            empty = parameter.default is inspect.Parameter.empty
            default = ... if empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return fields, takes_any


def _split_errors(config: Config) -> list[str]:
    algorithm = algorithms.get(config.algorithm["name"])
    sharing = getattr(algorithm, "sharing", "split")
    name = config.algorithm["name"]
    if sharing == "split" and config.split is None:
        return [
            f"split: algorithm {name!r} needs to know which parameters are personal, "
            "for example split.personal=[head.*]"
        ]
    if sharing != "split" and config.split is not None:
        what = "every parameter" if sharing == "all" else "nothing"
        return [f"split: algorithm {name!r} shares {what}; remove it (split=null)"]
    return []


def _sentences(
    error: pydantic.ValidationError, schema: Any, prefix: str = ""
) -> list[str]:
    sentences = []
    for item in error.errors(include_url=False):
        path = ".".join(str(step) for step in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            *parents, last = (str(step) for step in item["loc"])
            known = _known_keys(schema, parents)
            text = f"unknown key{did_you_mean(last, known)}"
            if known:
                text += f" (known: {', '.join(known)})"
        elif item["type"] in ("missing", "missing_argument"):
            text = "missing"
        elif path:
            text = f"{text[:1].lower()}{text[1:]}, got {item['input']!r}"
        sentences.append(f"{prefix}{path}: {text}" if path else f"{prefix}{text}")
    return sentences


def _known_keys(schema: Any, parents: Sequence[str]) -> list[str]:
    """Return the keys that a schema knows below a path of nested dataclasses."""
    for parent in parents:
        schema = _dataclass_in(typing.get_type_hints(schema).get(parent))
        if schema is None:
            return []
    if dataclasses.is_dataclass(schema):
        return sorted(f.name for f in dataclasses.fields(schema))
    return sorted(getattr(schema, "model_fields", {}))


def _dataclass_in(hint: Any) -> Any:
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    return next((o for o in options if dataclasses.is_dataclass(o)), None)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
