"""The state of a study in plain files: what it is, and its trials, a line each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.text import format_list, format_value

STUDY_FILE, TRIALS_FILE = "study.json", "trials.jsonl"


@dataclass(frozen=True)
class Result:
    """What a trial came to at a rung."""

    rounds: int
    value: float
    """The metric that is compared, as it is recorded."""

    seconds: float = 0.0
    """From the start of the run, or of its continuation, to its end."""

    cpu_seconds: float | None = None
    """Of all its processes; unknown for a job of its own."""


@dataclass(frozen=True)
class Failure:
    """Why a trial counts as the worst."""

    kind: str
    """Class of the error."""

    message: str
    exit_code: int


@dataclass
class Trial:
    """One configuration that is tried."""

    number: int
    generation: int
    params: dict[str, Any]
    """Of the dimensions that were sampled and are active."""

    rungs: list[int] = field(default_factory=list)
    """Rounds at which it is compared, the last are all of its rounds. Empty if its
    configuration cannot be trained."""

    passes: float = 0.0
    """Passes over the training data of the whole run."""

    personal: int | None = None
    """Personal parameters, if the split is chosen from those that the model offers."""

    results: list[Result] = field(default_factory=list)
    """One for each rung that it has reached."""

    failure: Failure | None = None
    repeats: int | None = None
    """Number of the trial that it repeats with another seed, if it does."""

    seed: int = 0
    """What is added to the seed of the study's configuration."""

    @property
    def name(self) -> str:
        """Name of its configuration and its run directory."""
        return f"{self.number:04d}"

    @property
    def rounds(self) -> int:
        """All of its rounds; 0 if no run of it can be made."""
        return self.rungs[-1] if self.rungs else 0

    @property
    def complete(self) -> bool:
        """Whether it was trained to the end."""
        return bool(self.rungs) and len(self.results) == len(self.rungs)

    @property
    def rounds_done(self) -> int:
        """Rounds at the last rung that it has reached."""
        return self.results[-1].rounds if self.results else 0

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Trial":
        """Return a trial from a line of the record."""
        failure = values["failure"]
        return cls(
            **{
                **values,
                "results": [Result(**one) for one in values["results"]],
                "failure": None if failure is None else Failure(**failure),
            }
        )


def write_trials(out: Path, trials: Sequence[Trial]) -> None:
    """Write all trials, whole: a reader sees either the old or the new file."""
    lines = [json.dumps(asdict(trial), allow_nan=False) for trial in trials]
    write_text(out / TRIALS_FILE, "".join(f"{line}\n" for line in lines))


def read_trials(out: Path) -> list[Trial]:
    """Return the recorded trials; none if the study has not begun.

    Raises
    ------
    DataError
        If the record cannot be read.
    """
    path = out / TRIALS_FILE
    if not path.exists():
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
        return [Trial.from_plain(json.loads(line)) for line in lines]
    except (OSError, ValueError, LookupError, TypeError) as error:
        msg = f"cannot read {path} ({error}); was it edited?"
        raise DataError(msg) from error


def begin_or_continue(out: Path, study: Mapping[str, Any]) -> None:
    """Record what a study is, or check that it is what was recorded.

    Parameters
    ----------
    out
        Folder of the study.
    study
        All that trials follow from, as plain values.

    Raises
    ------
    ConfigError
        If another study was begun there.
    """
    path = out / STUDY_FILE
    now = json.loads(json.dumps(study))
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(now, indent=1) + "\n")
        return
    try:
        then = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        msg = f"cannot read {path} ({error}); was it edited?"
        raise DataError(msg) from error
    differing = list(_differences(then, now))
    if differing:
        msg = (
            f"{out} holds another study; continue that one with the same command, or "
            f"name another --out:\n{format_list(differing)}"
        )
        raise ConfigError(msg)


def _differences(then: Any, now: Any, where: str = "") -> Any:
    """Yield a sentence for each value that differs."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*then, *now]):
            at = f"{where}.{key}" if where else key
            yield from _differences(then.get(key), now.get(key), at)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for k, (one, other) in enumerate(zip(then, now, strict=True)):
            label = one.get("name", k) if isinstance(one, dict) else k
            yield from _differences(one, other, f"{where}[{label}]")
    elif then != now:
        yield f"{where}: it was {format_value(then)}, and is now {format_value(now)}"
