"""The runs of a study: the configuration of each trial, its training and its value."""

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from fedapm_mpi.algorithms.base import algorithms, declared_sharing
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.yaml_io import dump
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import DataError, FedAPMError, TrainingError
from fedapm_mpi.studies.tune.budget import Passes
from fedapm_mpi.studies.tune.record import Failure, Result
from fedapm_mpi.studies.tune.space import Params, Space, set_key
from fedapm_mpi.studies.tune.splits import trained_blocks_of
from fedapm_mpi.tasks import LOSS
from fedapm_mpi.training.failure import read_failure
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.runner import train_run
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.terminal import silenced

VALIDATION = "val"
"""The part on which trials are compared."""


class Ended(NamedTuple):
    """How the training of a trial to a rung has ended."""

    code: int
    """Exit code of the run."""

    error: FedAPMError | None = None
    """What it raised, where it was in this process."""

    seconds: float = 0.0
    cpu_seconds: float | None = None
    stopped: bool = False
    """Whether a signal has asked it to stop."""


def trial_values(
    base: Mapping[str, Any],
    space: Space,
    params: Params,
    manifest: Manifest,
    passes: float,
) -> dict[str, Any]:
    """Return the plain configuration of a trial, with as many rounds as fit.

    It is evaluated after its last round alone, all clients on their validation parts. A
    schedule ends with the last round, however early the run is stopped at first.

    Parameters
    ----------
    base
        The plain configuration of the study.
    space, params
        The space, and the trial's parameters.
    manifest
        Data of the clients.
    passes
        The budget.

    Raises
    ------
    ConfigError
        If the values do not go together, or the budget is not enough for a round.
    """
    values = space.configuration(base, params)
    set_key(values, "evaluation.split", VALIDATION)
    set_key(values, "evaluation.clients", "all")
    set_key(values, "evaluation.pooled", False)
    _check_schedule(values)
    config = validate(values, "trial")
    sharing = declared_sharing(algorithms.get(config.algorithm["name"]))
    blocks = trained_blocks_of(values.get("split"), sharing)
    rounds = Passes(config, manifest, blocks).rounds_within(passes)
    return validate(with_rounds(values, rounds), "trial").plain()


def _check_schedule(values: dict[str, Any]) -> None:
    """Let a schedule end with the rounds, whatever the study's configuration says."""
    if isinstance(values.get("schedule"), str):
        values["schedule"] = {"name": values["schedule"]}
    if values.get("schedule") is not None:
        set_key(values, "schedule.rounds", None)


def with_rounds(values: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """Return a trial's configuration with a number of rounds in all."""
    found = deepcopy(dict(values))
    found["rounds"] = rounds
    set_key(found, "evaluation.every", rounds)
    if found.get("schedule") is not None:
        set_key(found, "schedule.rounds", rounds)
    return found


def until(values: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """Return a trial's configuration that stops at a rung, with a checkpoint there."""
    found = deepcopy(dict(values))
    found["rounds"] = rounds
    found["checkpoint"] = {"every": rounds, "keep": 1}
    return found


def chosen_values(
    base: Mapping[str, Any], space: Space, params: Params, rounds: int
) -> dict[str, Any]:
    """Return the configuration of a trial as the user trains it.

    It is evaluated as the configuration of the study says, also on which part.
    """
    values = space.configuration(base, params)
    _check_schedule(values)
    values["rounds"] = rounds
    if values.get("schedule") is not None:
        set_key(values, "schedule.rounds", rounds)
    return validate(values, "chosen").plain()


def write_rung(path: Path, values: Mapping[str, Any], rounds: int) -> None:
    """Write the configuration with which a trial is trained to a rung."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, dump(until(values, rounds)))


def train_here(values: Mapping[str, Any], run: Path, stop: PreemptionGuard) -> Ended:
    """Train a trial in this process.

    Parameters
    ----------
    values
        Its configuration up to the rung.
    run
        Its run directory, which is continued if it is there.
    stop
        Whether to stop between two rounds.
    """
    config = Config.from_plain(validate(values, "trial").plain())
    start, used = time.perf_counter(), time.process_time()
    error: FedAPMError | None = None
    code = 0
    try:
        with silenced():
            code = train_run(
                Serial(), config, directory=run, resume=True, progress="none", stop=stop
            ).exit_code
    except FedAPMError as caught:
        error, code = caught, caught.exit_code
    seconds = time.perf_counter() - start
    return Ended(code, error, seconds, time.process_time() - used)


def timed(start: Callable[[], int]) -> Ended:
    """Return how ranks that `start` starts and waits for have ended.

    CPU time is that of the ranks on this machine.
    """
    began, used = time.perf_counter(), _children()
    code = start()
    return Ended(code, None, time.perf_counter() - began, _children() - used)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def outcome(
    run: Path, rounds: int, metric: str, ended: Ended
) -> Result | Failure | None:
    """Return what a trial came to at a rung, or why it is the worst.

    A loss that is not finite, and whatever else a run reports as `TrainingError`, is a
    trial's own; any other end is none.

    Parameters
    ----------
    run
        Its run directory.
    rounds
        Those of the rung.
    metric
        Key of the record.
    ended
        How the run has ended.
    """
    if ended.code == 0:
        return result_of(run, rounds, metric, ended)
    if isinstance(ended.error, TrainingError):
        return Failure("TrainingError", str(ended.error), ended.code)
    if ended.error is None:
        return failure_of(run)
    return None


def failure_of(run: Path) -> Failure | None:
    """Return why a trial is the worst, as its run directory states it; if it does."""
    found = read_failure(run)
    if found is None or found["error"] != "TrainingError":
        return None
    return Failure(found["error"], found["message"], found["exit_code"])


def result_of(
    run: Path, rounds: int, metric: str, ended: Ended | None = None
) -> Result | Failure | None:
    """Return the value of a trial at a rung; `None` if it was not trained that far."""
    try:
        records = Run(run).records
    except DataError:
        return None
    at = [r for r in records if r["round"] == rounds and r.get(LOSS) is not None]
    if not at:
        return None
    value = at[-1].get(metric)
    if value is None:
        text = f"{metric} is not defined for any client after {rounds} rounds"
        return Failure("Undefined", text, TrainingError.exit_code)
    if ended is None:
        seconds = sum(float(r.get("wall_seconds") or 0) for r in records)
        return Result(rounds, float(value), seconds, None)
    return Result(rounds, float(value), ended.seconds, ended.cpu_seconds)


def metric_names(run_metrics: Sequence[str]) -> list[str]:
    """Return the keys of a record that trials may be compared by."""
    return [key for name in run_metrics for key in (name, f"{name}_worst_decile")]
