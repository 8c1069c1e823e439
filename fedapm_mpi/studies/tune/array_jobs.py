"""A study as job arrays of SLURM: the runs of a rung are one array.

Behind each array waits a short job that reads the results, decides which trials are
continued, and submits the next array, with a job like itself behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedapm_mpi.cluster.site import Site
from fedapm_mpi.cluster.slurm.scripts import (
    JobResources,
    TrainJob,
    render_step,
    render_training,
)
from fedapm_mpi.cluster.slurm.submit import submit_script
from fedapm_mpi.errors import FedAPMError
from fedapm_mpi.studies.tune.record import Trial
from fedapm_mpi.studies.tune.study import Study
from fedapm_mpi.studies.tune.trials import failure_of
from fedapm_mpi.utils.text import format_ids

JOBS = "jobs"
"""Folder of the jobs' scripts and output, in that of the study."""


@dataclass(frozen=True)
class ArrayOptions:
    """How the jobs of a study are submitted."""

    site: Site
    shape: JobResources
    """Of an element of an array, which trains one trial."""

    name: str
    limit: int | None
    """Elements that run at the same time; as many as there are unless given."""

    words: Sequence[str]
    """The words of the command that reads the results and continues."""

    step_time: str = "30"
    """Time limit of a job that reads the results."""


class UnfinishedError(FedAPMError):
    """An array of which an element has left neither a result nor a reason."""


def settle_from_directories(
    study: Study, todo: Sequence[tuple[Trial, int]]
) -> list[tuple[Trial, int]]:
    """Record what run directories state; return the trials of which they state nothing.

    Parameters
    ----------
    study, todo
        A study, and what it wants trained.
    """
    left = []
    for trial, rounds in todo:
        failure = failure_of(study.run_of(trial))
        if study.settle(trial, rounds, None):
            continue
        if failure is not None:
            study.fail(trial, failure)
            continue
        left.append((trial, rounds))
    return left


def submit_next(
    study: Study, options: ArrayOptions, *, after_array: bool
) -> tuple[str, str, int] | None:
    """Read results until trials are to be trained, and submit these.

    Parameters
    ----------
    study
        The study.
    options
        How.
    after_array
        Whether an array has ended that was to train what the study wants.

    Returns
    -------
    (array, step, count) or None
        Numbers of the jobs, and how many trials they train; `None` once the study is
        over.

    Raises
    ------
    UnfinishedError
        If an element of that array has left neither a result nor a reason.
    """
    while todo := study.advance():
        left = settle_from_directories(study, todo)
        if not left:
            after_array = False
            continue
        if after_array:
            names = ", ".join(trial.name for trial, _ in left)
            msg = (
                f"trials {names} have neither a result nor a reason why they have none;"
                f" look at the output in {study.out / JOBS}, correct the cause, then "
                "continue by the same command"
            )
            raise UnfinishedError(msg)
        return (*_submitted(study, options, left), len(left))
    return None


def _submitted(
    study: Study, options: ArrayOptions, todo: Sequence[tuple[Trial, int]]
) -> tuple[str, str]:
    """Submit an array, and the job that reads its results; return their numbers."""
    limit = "" if options.limit is None else f"%{options.limit}"
    numbers = [trial.number for trial, _ in todo]
    folder = study.out / JOBS
    training = TrainJob(
        name=options.name,
        config=str(study.runs),
        run_dir=str(study.runs),
        array=f"{format_ids(numbers)}{limit}",
        overrides=["--progress", "none"],
    )
    logs = str(folder)
    script = render_training(options.site, options.shape, training, logs)
    array = submit_script(script, folder / f"{options.name}.sbatch", logs)
    step = render_step(
        options.site, f"{options.name}-next", options.words, options.step_time, logs
    )
    path: Path = folder / f"{options.name}-next.sbatch"
    return array, submit_script(step, path, logs, [f"afterany:{array}"])
