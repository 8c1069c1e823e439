"""Options of a scaling study, from its YAML file."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedapm_mpi.config import loader as configfile
from fedapm_mpi.config.overrides import expand_dotted, merge
from fedapm_mpi.config.renamed_keys import with_new_names
from fedapm_mpi.utils.types import NonNegativeInt, PositiveInt, strict

MAX_POINTS = 10_000
"""Maximum number of runs of a study; each is checked before the first."""


@strict
@dataclass(frozen=True, kw_only=True)
class Strong:
    """Increasing numbers of ranks for the same clients."""

    client_ranks: list[PositiveInt]
    """Numbers of ranks that train; the server is an additional rank."""

    def __post_init__(self) -> None:
        check_distinct("client_ranks", self.client_ranks)


@strict
@dataclass(frozen=True, kw_only=True)
class Weak:
    """The same number of clients per rank on each number of ranks."""

    client_ranks: list[PositiveInt]
    clients_per_rank: PositiveInt

    def __post_init__(self) -> None:
        check_distinct("client_ranks", self.client_ranks)


@strict
@dataclass(frozen=True, kw_only=True)
class Size:
    """Several values of one key of the experiment, such as the width of a layer."""

    client_ranks: PositiveInt
    key: str
    """With dots, such as ``model.hidden``."""

    values: list[Any]

    def __post_init__(self) -> None:
        check_distinct("values", self.values)


@strict
@dataclass(frozen=True, kw_only=True)
class Study:
    """A scaling study."""

    config: str | dict[str, Any]
    """File of the experiment, relative to the study's; or the experiment itself."""

    overrides: dict[str, Any] = field(default_factory=dict)
    """Values that replace those of the experiment, nested or by dotted keys."""

    strong: Strong | None = None
    weak: Weak | None = None
    size: Size | None = None

    repetitions: PositiveInt = 3
    """Runs of each point; all points run once, then all of them again."""

    warmup_rounds: NonNegativeInt = 2
    """First rounds of a run that are excluded from the metrics."""

    cpus_per_rank: PositiveInt = 1
    """Cores per rank."""

    launcher: str = "auto"
    """See `fedapm launch`."""

    def __post_init__(self) -> None:
        if self.strong is None and self.weak is None and self.size is None:
            msg = "give at least one of strong, weak, size"
            raise ValueError(msg)
        cases = [part.client_ranks for part in (self.strong, self.weak) if part]
        cases += [self.size.values] if self.size else []
        count = sum(map(len, cases)) * self.repetitions
        if count > MAX_POINTS:
            msg = (
                f"{count} runs, with {self.repetitions} repetitions of each point, are "
                f"more than the {MAX_POINTS} that a study may have; give fewer points "
                "or repetitions"
            )
            raise ValueError(msg)

    def plain(self) -> dict[str, Any]:
        """Return the study as plain values that JSON and YAML preserve."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Raise `ValueError` if a list is empty, too long, or has a value twice."""
    if not values:
        msg = f"{name} is empty"
        raise ValueError(msg)
    if len(values) > MAX_POINTS:
        msg = f"{name} has {len(values)} values, more than {MAX_POINTS}"
        raise ValueError(msg)
    if any(value in values[:k] for k, value in enumerate(values)):
        msg = f"{name} has a value twice"
        raise ValueError(msg)


def load(path: Path) -> Study:
    """Read a study and its experiment, and validate both.

    Returns
    -------
    Study
        Holds the whole experiment, so that it needs no other file.

    Raises
    ------
    ConfigError
        With a sentence for each error.
    """
    study = read(path, configfile.print_note)
    values = study.config
    where = str(path)
    if isinstance(values, str):
        file = path.parent / values
        values, where = configfile.read_yaml(file), f"{file}, changed by {path}"
    changes = list(study.overrides.items())
    config, notes = configfile.validate_merged(values, changes, where, deep=True)
    for text in notes:
        configfile.print_note(text)
    whole = dataclasses.replace(config, data=str(Path(config.data).absolute()))
    if config.initial_model is not None:
        start = str(Path(config.initial_model).absolute())
        whole = dataclasses.replace(whole, initial_model=start)
    return dataclasses.replace(study, config=whole.plain(), overrides={})


def read(path: Path, notify: configfile.Notify = configfile.silent) -> Study:
    """Read and validate a study alone, without its experiment.

    Parameters
    ----------
    path
        Its file.
    notify
        Called with a sentence if it uses old names of keys.
    """
    study = configfile.read_as(path, Study, "study", notify)
    if isinstance(study.config, str):
        return study
    experiment, _ = configfile.use_new_names(study.config, str(path))
    return dataclasses.replace(study, config=configfile.as_was_meant(experiment))


def put(values: Mapping[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """Return a tree of values in which one, by its key with dots, is another."""
    change = [(dotted, value)]
    whole = configfile.alternatives(values, change, deep=True)
    changes, _ = with_new_names(expand_dotted(change, deep=True, alternatives=whole))
    tree: dict[str, Any] = {}
    merge(tree, values)
    merge(tree, changes)
    return tree
