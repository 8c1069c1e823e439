"""A sweep: the configurations of its cells, each with some values replaced."""

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from fedapm_mpi.config.diff import config_diff
from fedapm_mpi.config.loader import read_as, read_yaml, validate_merged
from fedapm_mpi.config.yaml_io import dump
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.training.identity import identity_of, identity_then
from fedapm_mpi.training.split_record import as_asked
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.text import format_list, truncate
from fedapm_mpi.utils.types import strict

MAX_CELLS = 10_000
"""Maximum number of cells of a sweep; each is checked before the first run."""

MAX_NAME_LENGTH = 100
"""Maximum number of characters of a cell's name; file systems allow 255."""


@strict
@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Options of a ``sweep.yaml``."""

    config: str
    """Path of the configuration, relative to the sweep's file."""

    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Dotted keys and their values; every combination is a cell."""

    zip: dict[str, list[Any]] = field(default_factory=dict)
    """Dotted keys whose values are combined in order, the first of each, then the
    second of each; and with every cell of `grid`."""

    out: str | None = None
    """Folder of the runs; by default runs/ and the name of the sweep's file."""

    def __post_init__(self) -> None:
        if not self.grid and not self.zip:
            msg = "give grid or zip, keys with lists of values"
            raise ValueError(msg)
        both = sorted(set(self.grid) & set(self.zip))
        if both:
            msg = f"{truncate(both[0])} is in grid and in zip"
            raise ValueError(msg)
        empty = [key for key, values in (self.grid | self.zip).items() if not values]
        if empty:
            msg = f"{truncate(empty[0])} has no values"
            raise ValueError(msg)
        lengths = {key: len(values) for key, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{key} has {count}" for key, count in lengths.items())
            msg = f"zip needs as many values for each key, but {truncate(counts, 200)}"
            raise ValueError(msg)
        if self.count > MAX_CELLS:
            msg = (
                f"{self.count} cells are more than the {MAX_CELLS} that a sweep may "
                "have; make several sweeps of it, or fewer values"
            )
            raise ValueError(msg)

    @property
    def count(self) -> int:
        """The number of cells, without making them."""
        together = min(map(len, self.zip.values()), default=1)
        return math.prod(map(len, self.grid.values())) * together

    def cells(self) -> list[dict[str, Any]]:
        """Return the values of each cell, in the order in which they are written."""
        grid = [
            dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        ]
        together = [
            dict(zip(self.zip, values, strict=True))
            for values in zip(*self.zip.values(), strict=True)
        ] or [{}]
        return [{**one, **other} for one in grid for other in together]


class Cell(NamedTuple):
    """One run of a sweep."""

    name: str
    """Name of its run directory: the replaced keys and their values."""

    values: dict[str, Any]
    """By dotted key."""

    config: dict[str, Any]
    """Its whole configuration."""

    run: Path
    """Its run directory."""

    notes: tuple[str, ...] = ()
    """Notes on values of the sweep's configuration that it drops."""

    @property
    def finished(self) -> bool:
        """Whether all rounds of its current configuration are done."""
        if not (self.run / "final" / "digest.txt").exists():
            return False
        then = read_yaml(self.run / "config.yaml")
        return bool(then.get("rounds") == self.config["rounds"])


def read_sweep(path: Path) -> tuple[list[Cell], Path]:
    """Return the cells of a sweep, each checked, and the folder of their runs.

    Raises
    ------
    ConfigError
        If the file or any cell is not valid, or if an existing run was trained with
        another configuration than its cell has now.
    """
    sweep = read_as(path, Sweep)
    out = Path("runs", path.stem) if sweep.out is None else Path(sweep.out)
    base = read_yaml(path.parent / sweep.config)
    cells = [_cell(base, values, out) for values in sweep.cells()]
    for cell in cells:
        _refuse_another(cell)
    return cells, out


def notes_on(cells: list[Cell]) -> list[str]:
    """Return the distinct notes of all cells."""
    return list(dict.fromkeys(note for cell in cells for note in cell.notes))


def write_cells(cells: list[Cell], out: Path) -> None:
    """Write each cell's configuration, and the list of their names in order.

    Raises
    ------
    WriteError
        If they cannot be written.
    """
    (out / "cells").mkdir(parents=True, exist_ok=True)
    for cell in cells:
        text = dump(cell.config)
        write_text(out / "cells" / f"{cell.name}.yaml", text)
    write_text(out / "cells.txt", "".join(f"{cell.name}\n" for cell in cells))


def name_of(values: Mapping[str, Any]) -> str:
    """Return a file name of the replaced values, unique for each cell.

    A key is cut to its last part. Where this, or a character that is not allowed in a
    file name, may make names equal, a part of a hash of the values follows.
    """
    pairs = {key: _plain(value) for key, value in values.items()}
    whole = ",".join(f"{key.split('.')[-1]}={text}" for key, text in pairs.items())
    name = re.sub(r"[^\w.,=+-]+", "_", whole)[:MAX_NAME_LENGTH]
    shortened = len({key.split(".")[-1] for key in pairs}) < len(pairs)
    if name == whole and not shortened:
        return name
    return f"{name}-{sha256(repr(sorted(pairs.items())).encode()).hexdigest()[:8]}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "+".join(f"{key}={_plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return "+".join(_plain(one) for one in value)
    return str(value)


def _cell(base: Mapping[str, Any], values: dict[str, Any], out: Path) -> Cell:
    name = name_of(values)
    # All at once, so that the order of keys does not count.
    checked, notes = validate_merged(base, list(values.items()), f"cell {name}")
    config = checked.plain()
    for key in ("data", "initial_model"):
        if config[key] is not None:
            config[key] = str(Path(config[key]).absolute())
    return Cell(name, values, config, out / name, tuple(notes))


def _refuse_another(cell: Cell) -> None:
    path = cell.run / "config.yaml"
    if not path.exists():
        return
    then = as_asked(read_yaml(path), cell.run, cell.config)
    now = identity_of(cell.config)
    try:
        differing = config_diff(identity_then(then, cell.config), now)
    except (LookupError, TypeError, FedAPMError):
        differing = [f"{path} is not the configuration of a run"]
    if differing:
        msg = (
            f"{cell.run} was trained with another configuration than its cell has now; "
            f"move it away, or give the sweep another out:\n{format_list(differing)}"
        )
        raise ConfigError(msg)
