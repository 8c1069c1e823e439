"""The runs of a study, and their directories."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedapm_mpi.comm import Serial
from fedapm_mpi.config import loader as configfile
from fedapm_mpi.config.diff import config_diff
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.yaml_io import dump
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.studies.scaling.study import Study, put, read
from fedapm_mpi.utils.atomic_io import write_error, write_text
from fedapm_mpi.utils.text import format_list

STUDY = "study.yaml"
"""The resolved study in its directory."""

MAX_NAME_LENGTH = 40
"""Maximum number of characters of a value in a file's name."""


@dataclass(frozen=True)
class Point:
    """One run of a study."""

    root: Path
    """The study's directory."""

    kind: str
    """strong, weak or size."""

    client_ranks: int
    repetition: int
    config: Config
    """The whole experiment."""

    value: str = ""
    """Of the key that a size study varies, as part of a file name."""

    @property
    def case(self) -> str:
        """Name that all repetitions of a point share."""
        parts = [self.kind, str(self.client_ranks), self.value]
        return "-".join(part for part in parts if part)

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.case}-{self.repetition}"

    @property
    def ranks(self) -> int:
        """Number of ranks, with the server."""
        return self.client_ranks + 1

    @property
    def run(self) -> Path:
        """Its run directory."""
        return self.root / "points" / self.name

    @property
    def log(self) -> Path:
        """Output of its launcher."""
        return self.root / "points" / f"{self.name}.log"

    @property
    def config_path(self) -> Path:
        """Its experiment, written by `lay_out`."""
        return self.root / "configs" / f"{self.name}.yaml"

    @property
    def words(self) -> list[str]:
        """Arguments of ``fedapm`` on all its ranks."""
        run = ["--run-dir", str(self.run), "--progress", "none"]
        return ["train", str(self.config_path), *run]

    @property
    def finished(self) -> bool:
        """Whether all its rounds are done."""
        return (self.run / "final" / "digest.txt").is_file()


def points_of(study: Study, root: Path) -> list[Point]:
    """Return the points of a resolved study, in the order of their runs.

    Raises
    ------
    ConfigError
        If the experiment of one is not valid, or has no round to measure.
    """
    cases = [
        Point(root, kind, ranks, 0, _config(kind, values), value)
        for kind, ranks, values, value in _cases(study)
    ]
    for case in cases:
        if case.config.rounds <= study.warmup_rounds:
            msg = (
                f"warmup_rounds: {study.warmup_rounds} leaves none of the "
                f"{case.config.rounds} rounds of {case.case} to measure; ask for more "
                "rounds"
            )
            raise ConfigError(msg)
    return [
        dataclasses.replace(case, repetition=k)
        for k in range(study.repetitions)
        for case in cases
    ]


def check(points: Sequence[Point]) -> None:
    """Open every experiment once on its data, so that mistakes show before any run.

    Raises
    ------
    FedAPMError
        If an experiment does not fit the data, or there are fewer clients than ranks.
    """
    from fedapm_mpi.training.context import open_context

    seen: dict[str, int] = {}
    for point in points:
        if point.repetition:
            continue
        # Ranks on other machines may have the device that this one lacks.
        config = dataclasses.replace(point.config, device="cpu", kernels="native")
        key = json.dumps(config.plain(), sort_keys=True)
        try:
            if key not in seen:
                seen[key] = open_context(config, Serial()).federation.num_clients
        except FedAPMError as error:
            msg = f"{point.case}: {error}"
            raise type(error)(msg) from error
        if point.client_ranks > seen[key]:
            msg = (
                f"{point.case}: {point.client_ranks} client ranks for {seen[key]} "
                "clients: some ranks would have none; ask for fewer ranks"
            )
            raise ConfigError(msg)


def lay_out(study: Study, root: Path) -> list[Point]:
    """Write the study and the experiment of each point; return the points.

    Each has its `name`, its number of `ranks`, the file of its experiment
    (`config_path`) and its `run` directory; `words` are the arguments of its ranks.

    Raises
    ------
    ConfigError
        If the directory holds another study.
    """
    points = points_of(study, root)
    file = root / STUDY
    if file.exists():
        _refuse_another(study, file)
    elif root.is_dir() and any(root.iterdir()):
        msg = f"{root} is not empty and holds no study; give another folder by --out"
        raise ConfigError(msg)
    check(points)
    try:
        for folder in (root / "points", root / "configs"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(root, error) from error
    for point in points:
        _dump(point.config_path, point.config.plain())
    _dump(file, study.plain())
    return points


def open_study(root: Path) -> tuple[Study, list[Point]]:
    """Read a study's directory; return the study and all its points.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if not (root / STUDY).is_file():
        msg = (
            f"{root} holds no study; make one with: fedapm scale run STUDY --out {root}"
        )
        raise ConfigError(msg)
    study = read(root / STUDY)
    return study, points_of(study, root)


def _cases(study: Study) -> Iterator[tuple[str, int, Mapping[str, Any], str]]:
    """Yield kind, client ranks, values of the experiment and the changed value."""
    base = study.config
    if not isinstance(base, dict):
        msg = "the study is not resolved"
        raise TypeError(msg)
    if study.strong:
        for ranks in study.strong.client_ranks:
            yield "strong", ranks, base, ""
    if study.weak:
        for ranks in study.weak.client_ranks:
            clients = ranks * study.weak.clients_per_rank
            yield "weak", ranks, {**base, "clients": clients}, ""
    if study.size:
        labels = _labels(study.size.values)
        for label, value in zip(labels, study.size.values, strict=True):
            values = put(base, study.size.key, value)
            yield "size", study.size.client_ranks, values, label


def _config(kind: str, values: Mapping[str, Any]) -> Config:
    return configfile.validate(values, f"the study {kind!r}")


def _labels(values: Sequence[Any]) -> list[str]:
    """Return a name for each value that can be part of a file's."""
    texts = [re.sub(r"[^\w.]+", "_", json.dumps(value)).strip("_") for value in values]
    usable = all(0 < len(text) <= MAX_NAME_LENGTH for text in texts)
    if usable and len(set(texts)) == len(texts):
        return texts
    return [f"value{k}" for k in range(len(values))]


def _refuse_another(study: Study, file: Path) -> None:
    there, wanted = read(file).plain(), study.plain()
    differing = config_diff(there, wanted)
    if differing:
        msg = (
            f"{file.parent} holds another study; give another folder by --out:\n"
            f"{format_list(differing)}"
        )
        raise ConfigError(msg)


def _dump(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, dump(values))
