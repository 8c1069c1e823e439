"""Run a whole job: from a configuration to a finished run directory."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config import plugin_sources
from fedapm_mpi.config.schema import Config
from fedapm_mpi.errors import EXIT_RESUMABLE, FedAPMError, WriteError
from fedapm_mpi.tracking.base import ProgressKind
from fedapm_mpi.tracking.run_directory import (
    RunDirectory,
    lock_run_directory,
    new_run_directory,
)
from fedapm_mpi.training import loop
from fedapm_mpi.training.context import TrainingContext, open_context
from fedapm_mpi.training.failure import remove_failure, write_failure
from fedapm_mpi.training.identity import (
    run_identity,
)
from fedapm_mpi.training.loggers import open_loggers
from fedapm_mpi.training.outputs import (
    report_result,
    write_final_state,
    write_run_metadata,
)
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.resume import check_built_model, find_checkpoint
from fedapm_mpi.training.split_choice import (
    choose_split,
    plan_split,
)
from fedapm_mpi.training.split_search import split_of
from fedapm_mpi.utils.log import get_logger

log = get_logger(__name__)


def train(
    comm: Communicator,
    config: Config,
    *,
    directory: Path | None = None,
    out: Path = Path("runs"),
    resume: bool = False,
    progress: ProgressKind = "auto",
    stop: PreemptionGuard | None = None,
    break_lock: bool = False,
    accept_changed_parts: bool = False,
) -> int:
    """Run an experiment and return the exit code; see `train_run`."""
    return train_run(
        comm,
        config,
        directory=directory,
        out=out,
        resume=resume,
        progress=progress,
        stop=stop,
        break_lock=break_lock,
        accept_changed_parts=accept_changed_parts,
    ).exit_code


class TrainedRun(NamedTuple):
    """A run that has finished, or has stopped early."""

    directory: Path
    """The run directory."""

    digest: str | None
    """SHA-256 of the state of the server and of every client; the server has it."""

    exit_code: int
    """0, or 75 if the run was stopped and can be resumed."""

    @property
    def finished(self) -> bool:
        """Whether all rounds are done, or the stop rule was met."""
        return self.exit_code == 0


def train_run(
    comm: Communicator,
    config: Config,
    *,
    directory: Path | None = None,
    out: Path = Path("runs"),
    resume: bool = False,
    progress: ProgressKind = "auto",
    stop: PreemptionGuard | None = None,
    break_lock: bool = False,
    accept_changed_parts: bool = False,
) -> TrainedRun:
    """Run an experiment and leave a run directory; a collective call.

    Parameters
    ----------
    comm
        The ranks.
    config
        The experiment, the same on every rank.
    directory, out
        The run directory, or, without one, the folder in which a new one is made.
    resume
        Whether to continue from the last checkpoint in `directory`, if it has any.
    progress
        What to show: auto, live, lines or none.
    stop
        Whether the run is to stop at the next round border.
    break_lock
        Whether to take the directory from a job that may still own it on another host.
    accept_changed_parts
        Whether to continue although the source of a user's plug-in has changed.

    Returns
    -------
    TrainedRun
        Where the run is and how it ended.
    """
    stop = stop or PreemptionGuard()
    config, search = plan_split(comm, config, directory if resume else None)
    context = search.first if search else open_context(config, comm)
    recorder = _open_directory(context, directory, out, resume, break_lock)
    try:
        if search is not None:
            found = choose_split(search, recorder, stop, progress)
            if found is None:
                return TrainedRun(recorder.path, None, EXIT_RESUMABLE)
            context, search = found, None  # its first phase is in memory
        return _train(
            context,
            recorder,
            resume=resume,
            progress=progress,
            stop=stop,
            accept_changed_parts=accept_changed_parts,
        )
    finally:
        if recorder.lock is not None:
            recorder.lock.release()


def _train(
    context: TrainingContext,
    recorder: RunDirectory,
    *,
    resume: bool,
    progress: ProgressKind,
    stop: PreemptionGuard,
    accept_changed_parts: bool,
) -> TrainedRun:
    """Train in a directory that is this run's."""
    comm, config = context.comm, context.config  # threads are a number now
    identity = run_identity(comm, config, context.federation.manifest.sha256)
    again = f"fedapm train --resume {recorder.path}"
    stop.hint = f"continue from the last checkpoint with: {again}"
    notes: list[str] = []
    accepted: list[str] = []
    saved = None
    if resume:
        saved = find_checkpoint(
            context,
            recorder,
            identity,
            notes,
            accept_changed_parts=accept_changed_parts,
            accepted=accepted,
        )
    check_built_model(context, recorder, resumed=saved is not None)
    sources = identity.get(plugin_sources.KEY)
    write_run_metadata(context, recorder, saved, notes, progress, (sources, accepted))
    loggers = open_loggers(
        context,
        recorder,
        first_round=saved.round_index if saved else 0,
        progress=progress,
    )
    with _recorded(context, recorder), _hint_at_resume():
        try:
            result = loop.train(
                context,
                recorder,
                resume=saved,
                identity=identity,
                logger=loggers,
                stop=stop,
            )
        except BaseException:
            with suppress(Exception):  # the first failure is the one to report
                loggers.close()
            raise
        loggers.close()
        digest, summary = write_final_state(context, recorder, result)
    if comm.rank == SERVER:
        report_result(context, recorder, result, digest, summary, progress)
    return TrainedRun(recorder.path, digest, result.exit_code)


@contextmanager
def _recorded(context: TrainingContext, recorder: RunDirectory) -> Iterator[None]:
    """Leave the error that ends the run in its directory, on the server."""
    at_server = context.comm.rank == SERVER
    if at_server:
        remove_failure(recorder.path)
    try:
        yield
    except FedAPMError as error:
        if at_server:
            write_failure(recorder.path, error)
        raise


@contextmanager
def _hint_at_resume() -> Iterator[None]:
    """Add to the error of a write that the run, which has begun, can be resumed."""
    try:
        yield
    except WriteError as error:
        error.args = (f"{error}, then continue with --resume",)
        raise


def dry_run(comm: Communicator, config: Config) -> int:
    """Check everything and print what a run would take; a collective call.

    Where the split is still to be chosen, the plan is that of its first candidate,
    which sends most.
    """
    config, search = plan_split(comm, config, None)
    if search is not None:
        first = search.candidates[0]
        config = dataclasses.replace(config, split=split_of(first))
        if comm.rank == SERVER:
            log.info(
                "split: auto chooses among %d candidates; this is the plan for %s",
                len(search.candidates),
                first.name,
            )
    context = open_context(config, comm)
    from fedapm_mpi.training.dry_run import measure, memory, print_plan

    seconds = measure(context)
    slowest = comm.allreduce_max([seconds])[0]
    memories = comm.gather_object(memory(context))
    if memories is not None:
        print_plan(context, slowest, memories)
    return 0


def _open_directory(
    context: TrainingContext,
    directory: Path | None,
    out: Path,
    resume: bool,
    break_lock: bool,
) -> RunDirectory:
    """Make or find the run directory and become its owner; a collective call."""
    comm, config = context.comm, context.config
    error: FedAPMError | None = None
    made = directory
    mine = None
    if comm.rank == SERVER:
        try:
            if made is None:
                algorithm = config.algorithm["name"].rpartition(":")[2]
                stem = f"{context.federation.manifest.dataset}-{algorithm}"
                made = new_run_directory(out, stem)
            mine = lock_run_directory(
                made,
                resume=resume,
                break_lock=break_lock,
                tell=lambda text: log.info("%s", text),
            )
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    return RunDirectory(comm.bcast_object(made), mine)
