"""Overrides: values that replace others, written as ``key.sub=value`` or nested."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from fedapm_mpi.config import yaml_io as yamlfile
from fedapm_mpi.config.renamed_keys import OLD_PLUGIN_KINDS
from fedapm_mpi.config.split_options import written_out
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.text import format_value

ALTERNATIVES = frozenset({"split", "clip", "evaluation.fine_tune.work"})
"""Keys of a configuration whose value is one of several alternatives. A whole value
replaces the old one instead of being merged. An algorithm's options of this kind are
known by their type; see `loader.alternatives`."""

PLUGIN_KEYS = (
    "model", "algorithm", "optimizer", "schedule", "participation", "placement",
    "aggregator", "partitioner", "shift", *OLD_PLUGIN_KINDS,
)  # fmt: skip
"""Keys whose values are plug-ins: a name and options, or the name alone."""


class WholeValue(dict[str, Any]):
    """A mapping that replaces the old value instead of being merged into it."""


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """Return ``["a.b=1", ...]`` as nested values; see `read_overrides`."""
    return expand_dotted(read_overrides(items))


def read_overrides(items: Sequence[str]) -> list[tuple[str, Any]]:
    """Return ``["a.b=1", ...]`` as dotted keys and values, each read as YAML.

    Raises
    ------
    ConfigError
        If an item has no ``=`` or its value is not YAML.
    """
    pairs: list[tuple[str, Any]] = []
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
            pairs.append((dotted, yamlfile.parse(text)))
        except ValueError as error:
            msg = (
                f"override {format_value(item)}: the value is not valid YAML ({error})"
            )
            raise ConfigError(msg) from error
    return pairs


def expand_dotted(
    pairs: Iterable[tuple[str, Any]],
    *,
    deep: bool = False,
    alternatives: Collection[str] = ALTERNATIVES,
) -> dict[str, Any]:
    """Return values by dotted keys as a tree; later ones win.

    Parameters
    ----------
    pairs
        Such as ``[("algorithm.rho", 0.1)]``.
    deep
        Whether keys inside of values may be dotted too; else these stay as they are.
    alternatives
        Dotted keys whose value, given whole, replaces another.

    Returns
    -------
    dict
        For `merge`: in it, what replaces another value as a whole is a `WholeValue`.
    """
    return _expanded(pairs, "", deep, alternatives)


def _expanded(
    pairs: Iterable[tuple[str, Any]],
    prefix: str,
    deep: bool,
    alternatives: Collection[str],
) -> dict[str, Any]:
    """Return the tree of values whose dotted keys all stand below `prefix`."""
    tree: dict[str, Any] = {}
    for dotted, value in pairs:
        place = f"{prefix}{dotted}"
        branch = value
        if deep and isinstance(value, Mapping):
            branch = _expanded(value.items(), f"{place}.", deep, alternatives)
        *parents, last = dotted.split(".")
        nested: dict[str, Any] = {last: _marked(branch, place, alternatives)}
        for key in reversed(parents):
            nested = {key: nested}
        merge(tree, nested)
    return tree


def _marked(value: Any, place: str, alternatives: Collection[str]) -> Any:
    """Return a value in which mappings that replace others are `WholeValue`."""
    if not isinstance(value, Mapping):
        return value
    inside = {
        key: _marked(one, f"{place}.{key}", alternatives) for key, one in value.items()
    }
    return WholeValue(inside) if place in alternatives else inside


def merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Merge nested values in place; the later ones win.

    A plug-in, or a split, given by one word becomes a mapping when an option follows.
    A plug-in that gets another name loses the options of the old one. A `WholeValue`
    replaces the old value.
    """
    for key, value in other.items():
        old = into.get(key)
        if isinstance(value, str) and isinstance(old, Mapping) and key in PLUGIN_KEYS:
            value = {"name": value}
        if not isinstance(value, Mapping):
            into[key] = value
            continue
        if isinstance(old, str):
            old = written_out(old) if key == "split" else {"name": old}
        if not isinstance(old, Mapping) or isinstance(value, WholeValue):
            old = {}
        if "name" in value and old.get("name", value["name"]) != value["name"]:
            old = {}
        whole = isinstance(value, WholeValue) or isinstance(old, WholeValue)
        nested: dict[str, Any] = WholeValue(old) if whole else dict(old)
        merge(nested, value)
        into[key] = nested
