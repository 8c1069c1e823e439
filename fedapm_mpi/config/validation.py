"""Check options of plug-ins against signatures, and format the errors of pydantic.

Imports nothing of training, so that commands that do not train start quickly.
"""

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pydantic

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins.errors import describe_error, plugin_error, user_location
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import MAX_ITEMS, format_value, truncate

MAX_KEY_LENGTH = 60
"""Characters of an unknown key that are compared with those that are known."""


def validate_options(
    what: str, factory: Callable[..., Any], options: Mapping[str, Any], positional: int
) -> tuple[dict[str, Any], list[str]]:
    """Check a plug-in's options against its signature.

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
    schema: Any = None
    try:
        fields, takes_any = _signature_fields(factory, positional)
        config = pydantic.ConfigDict(
            extra="allow" if takes_any else "forbid",
            arbitrary_types_allowed=True,
            allow_inf_nan=False,
            protected_namespaces=(),
        )
        schema = _schema(config, fields)
        checked = schema.model_validate_json(as_json(options), strict=True)
    except pydantic.ValidationError as error:
        return {}, format_findings(error, schema, f"{what}: ")
    except ConfigError as error:
        return {}, [f"{what} {error}"]
    except Exception as error:  # a user's own signature or type hints
        return {}, [_not_inspected(what, error)]
    found: dict[str, Any] = checked.model_dump(by_alias=True, warnings=False)
    plain = {
        key: value if is_plain(value) else options[key]
        for key, value in found.items()
        if is_plain(value) or key in options
    }
    if dataclasses.is_dataclass(factory):
        try:
            factory(**plain)
        except (ValueError, TypeError) as error:
            return {}, [f"{what}: {error}"]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of a user's own
            return {}, [str(plugin_error(what, error, building=True))]
    return plain, []


def as_json(values: Any) -> str:
    """Return plain values as JSON, for strict validation.

    In JSON a list is accepted for a tuple and a mapping for a dataclass, but neither a
    string nor a boolean for a number.
    """

    def plain(value: Any) -> Any:
        return value.item() if isinstance(value, np.generic) else str(value)

    return json.dumps(values, default=plain)


def is_plain(value: Any) -> bool:
    """Return whether a value can be written to a configuration file and read back.

    A default such as ``torch.nn.ReLU`` cannot; the factory itself fills it in.
    """
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(one) for one in value)
    return value is None or type(value) in (bool, int, float, str)


def _schema(config: pydantic.ConfigDict, fields: Mapping[str, Any]) -> Any:
    """Return the pydantic model of options, which may have any names."""
    named: dict[str, Any] = {}
    for name, (hint, default) in fields.items():
        if name.startswith("_") or hasattr(pydantic.BaseModel, name):
            field = pydantic.Field(default, alias=name)
            named[f"option_{name.strip('_')}_{len(named)}"] = (hint, field)
        else:
            named[name] = (hint, default)
    return pydantic.create_model("Options", __config__=config, **named)


def _not_inspected(what: str, error: Exception) -> str:
    where = user_location(error)
    return f"{what}: its options cannot be read: {describe_error(error)}{where}"


def _signature_fields(
    factory: Callable[..., Any], positional: int
) -> tuple[dict[str, Any], bool]:
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except Exception:  # a user's, that cannot be resolved here
        hints = {}
    try:
        signature = inspect.signature(factory)
    except ValueError:  # compiled code without one may take anything
        return {}, True
    parameters = _options_of(signature, positional)
    made = {
        field.name: field.default_factory()
        for field in _dataclass_fields(factory)
        if field.default_factory is not dataclasses.MISSING
    }
    fields: dict[str, Any] = {}
    takes_any = False
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            empty = parameter.default is inspect.Parameter.empty
            default = ... if empty else made.get(parameter.name, parameter.default)
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return fields, takes_any


def _options_of(
    signature: inspect.Signature, positional: int
) -> list[inspect.Parameter]:
    """Return the parameters that are options, after those given by position.

    Raises
    ------
    ConfigError
        If it cannot be called with `positional` arguments by position.
    """
    by_position = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    every = list(signature.parameters.values())
    leading = [p for p in every if p.kind in by_position]
    anything = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in every)
    if len(leading) < positional and not anything:
        msg = (
            f"is called with {positional} arguments by position, but takes "
            f"{len(leading)}"
        )
        raise ConfigError(msg)
    taken = leading[:positional]
    needed = [p for p in leading[positional:] if p.kind is by_position[0]]
    for parameter in needed:
        if parameter.default is inspect.Parameter.empty:
            msg = f"needs {parameter.name!r} by position, which is not given"
            raise ConfigError(msg)
    return [p for p in every if p not in taken and p not in needed]


def _dataclass_fields(factory: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ()


def format_findings(
    error: pydantic.ValidationError, schema: Any, prefix: str = ""
) -> list[str]:
    """Return one sentence for each error of a validation, the nearest key in it.

    The keys that are known at a place are listed once.
    """
    found = []
    listed: list[list[str]] = []
    every = error.errors(include_url=False)
    for item in every[:MAX_ITEMS]:
        path = truncate(_path([step for step in item["loc"] if not _is_kind(step)]))
        text = item["msg"].removeprefix("Value error, ")
        if item["type"].endswith("_type"):  # in words of YAML, not of JSON
            text = text.replace("array", "list").replace("an object", "a mapping")
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            *parents, last = (str(step) for step in item["loc"])
            known = _known_keys(schema, parents)
            text = f"unknown key{did_you_mean(last[:MAX_KEY_LENGTH], known)}"
            if known and known not in listed:
                listed.append(known)
                text += f" (known: {', '.join(known)})"
        elif item["type"] in ("missing", "missing_argument"):
            text = "missing"
        elif item["type"] == "json_invalid":
            text = "a string in it is not valid Unicode text"
        elif path:
            text = f"{text[:1].lower()}{text[1:]}, got {format_value(item['input'])}"
        found.append(f"{prefix}{path}: {text}" if path else f"{prefix}{text}")
    if len(every) > MAX_ITEMS:
        found.append(f"{prefix}and {len(every) - MAX_ITEMS} more errors")
    return found


def _known_keys(schema: Any, parents: Sequence[str]) -> list[str]:
    """Return the keys that a schema knows below a path of nested dataclasses."""
    for parent in parents:
        if parent.isdecimal():  # one of a list, whose items the schema already is
            continue
        schema = _dataclass_in(typing.get_type_hints(schema).get(parent))
        if schema is None:
            return []
    if dataclasses.is_dataclass(schema):
        return sorted(f.name for f in dataclasses.fields(schema))
    fields = getattr(schema, "model_fields", {})
    return sorted(field.alias or name for name, field in fields.items())


def _path(steps: Sequence[int | str]) -> str:
    """Return a path in a tree of values, such as ``groups[0].model``."""
    parts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps]
    return "".join(parts).removeprefix(".")


def _is_kind(step: int | str) -> bool:
    """Return whether a step is the type that was tried, not a key."""
    return step in ("int", "constrained-int", "str") or str(step).startswith("literal[")


def _dataclass_in(hint: Any) -> Any:
    inside = _is_union(hint) or typing.get_origin(hint) is list
    options = typing.get_args(hint) if inside else (hint,)
    return next((o for o in options if dataclasses.is_dataclass(o)), None)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
