"""The record of a chosen split in a run directory, by which the run continues."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedapm_mpi.config.split_options import Split
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.atomic_io import open_regular

CHOICE = "split_choice.json"


def read_choice(directory: Path) -> dict[str, Any] | None:
    """Return what a run directory says of its choice; `None` if it made none.

    Raises
    ------
    ConfigError
        If the file is damaged.
    """
    path = directory / CHOICE
    if not path.exists():
        return None
    try:
        with open_regular(path) as file:
            values = json.loads(file.read().decode("utf-8"))
        Split(personal=list(map(str, values["split"]["personal"])))
        found: dict[str, Any] = {**values, "auto": dict(values["auto"])}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        msg = (
            f"cannot read {path} ({error}); the run's config.yaml has its split, with "
            "which it continues: leave out the configuration and name the run"
        )
        raise ConfigError(msg) from error
    return found


def as_asked(
    values: Mapping[str, Any], directory: Path, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a run's configuration with ``split.auto`` in place of what it chose.

    Only where the configuration to compare it with, `wanted`, has ``split.auto``.
    """
    split = wanted.get("split")
    asks = isinstance(split, Mapping) and split.get("auto") is not None
    found = read_choice(directory) if asks else None
    if found is None:
        return dict(values)
    return {**values, "split": {"auto": found["auto"]}}
