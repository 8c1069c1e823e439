"""Overrides: values that replace others, written as ``key.sub=value`` or nested."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedapm_mpi.config import yaml_io as yamlfile
from fedapm_mpi.config.renamed_keys import OLD_PLUGIN_KINDS
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.text import format_value

ALTERNATIVES = ("split", "work")
"""Keys whose value is one of several alternatives, also as the ending of a key such as
``shared_work``. A whole value replaces the old one instead of being merged."""

PLUGIN_KEYS = (
    "model", "algorithm", "optimizer", "schedule", "participation", "placement",
    "aggregator", "partitioner", "shift", *OLD_PLUGIN_KINDS,
)  # fmt: skip
"""Keys whose values are plug-ins: a name and options, or the name alone."""


class WholeValue(dict[str, Any]):
    """A mapping that replaces the old value instead of being merged into it."""


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
        keys = dotted.split(".")
        if not equals or not all(keys):
            msg = (
                f"override {format_value(item)} is not of the form key=value or "
                "key.sub=value"
            )
            raise ConfigError(msg)
        try:
            value = yamlfile.parse(text)
        except ValueError as error:
            msg = (
                f"override {format_value(item)}: the value is not valid YAML ({error})"
            )
            raise ConfigError(msg) from error
        merge(values, expand_dotted({dotted: value}))
    return values


def expand_dotted(values: Mapping[str, Any], *, deep: bool = False) -> dict[str, Any]:
    """Return values by dotted keys as a tree; later ones win.

    Parameters
    ----------
    values
        Such as ``{"algorithm.rho": 0.1}``.
    deep
        Whether keys inside of values may be dotted too; else these stay as they are.

    Returns
    -------
    dict
        For `merge`: in it, what replaces another value as a whole is a `WholeValue`.
    """
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        inside = deep and isinstance(value, Mapping)
        branch = expand_dotted(value, deep=True) if inside else value
        *parents, last = dotted.split(".")
        nested: dict[str, Any] = _marked({last: branch})
        for key in reversed(parents):
            nested = {key: nested}
        merge(tree, nested)
    return tree


def _marked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in which those that replace others are `WholeValue`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            inside = _marked(value)
            found[key] = WholeValue(inside) if is_alternative(str(key)) else inside
        else:
            found[key] = value
    return found


def is_alternative(key: str) -> bool:
    """Return whether a key's value is one of several alternatives."""
    return key in ALTERNATIVES or key.endswith("_work")


def merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Merge nested values in place; the later ones win.

    A plug-in given by its bare name becomes a mapping when an option follows. One that
    gets another name loses the options of the old one. A `WholeValue` replaces the old
    value.
    """
    for key, value in other.items():
        old = into.get(key)
        if isinstance(value, str) and isinstance(old, Mapping) and key in PLUGIN_KEYS:
            value = {"name": value}
        if not isinstance(value, Mapping):
            into[key] = value
            continue
        if isinstance(old, str):
            old = {"name": old}
        if not isinstance(old, Mapping) or isinstance(value, WholeValue):
            old = {}
        if "name" in value and old.get("name", value["name"]) != value["name"]:
            old = {}
        whole = isinstance(value, WholeValue) or isinstance(old, WholeValue)
        nested: dict[str, Any] = WholeValue(old) if whole else dict(old)
        merge(nested, value)
        into[key] = nested
