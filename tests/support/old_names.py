"""Configurations under the names that keys had before; every version reads them."""

import json
from collections.abc import Mapping
from typing import Any

from fedapm_mpi.config.former_defaults import FORMER_DEFAULTS
from fedapm_mpi.config.renamed_keys import RENAMED_KEYS, RenamedKey
from fedapm_mpi.plugins.names import is_user_plugin


def old_names(
    values: Mapping[str, Any], *, keep_later_options: bool = False
) -> dict[str, Any]:
    """Return a plain configuration as a version with the old names would have it.

    Parameters
    ----------
    values
        The configuration.
    keep_later_options
        Whether to keep options that say what was done before they could be given.
    """
    found: dict[str, Any] = json.loads(json.dumps(values))
    if not keep_later_options:
        _drop_former_defaults(found)
    part = found.get("algorithm")
    name = part.get("name") if isinstance(part, dict) else part
    for key in reversed(RENAMED_KEYS["configuration"]):
        if not (key.path.startswith("algorithm.") and is_user_plugin(name)):
            _rename(found, key.path.split("."), key)
    return found


def _drop_former_defaults(values: dict[str, Any]) -> None:
    """Leave out, in place, options that say what was done before they were known."""
    part = values.get("algorithm")
    if isinstance(part, dict):
        for key, value in FORMER_DEFAULTS.get(str(part.get("name")), {}).items():
            if part.get(key) == value:
                del part[key]


def _rename(values: Any, steps: list[str], key: RenamedKey) -> None:
    """Give one key its old name, in place."""
    step, *rest = steps
    if not isinstance(values, dict):
        return
    if rest:
        inside = values.get(step.removesuffix("[]"))
        for one in inside if isinstance(inside, list) else [inside]:
            _rename(one, rest, key)
    elif key.name in values:
        back = {new: old for old, new in key.values.items()}
        value = values.pop(key.name)
        values[step] = back.get(value, value) if isinstance(value, str) else value
