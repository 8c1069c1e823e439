"""Run a whole job: from a configuration to a finished run directory."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config import plugin_sources
from fedapm_mpi.config.schema import Config
from fedapm_mpi.engine.tensor_files import write_tensors
from fedapm_mpi.errors import EXIT_RESUMABLE, ConfigError, FedAPMError
from fedapm_mpi.placements import client_ranks
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage.checkpoint_folder import any_ever, clean
from fedapm_mpi.storage.digest import run_digest
from fedapm_mpi.storage.final_state import write_sums
from fedapm_mpi.tracking.base import ProgressKind
from fedapm_mpi.tracking.run_directory import (
    RunDirectory,
    lock_run_directory,
    make_directory,
    new_run_directory,
)
from fedapm_mpi.tracking.summary import remarks, summarize_run
from fedapm_mpi.training import loop
from fedapm_mpi.training.context import TrainingContext, open_context
from fedapm_mpi.training.identity import (
    changed_sources,
    check_same_run,
    run_identity,
)
from fedapm_mpi.training.loggers import open_loggers
from fedapm_mpi.training.loop import TrainingResult
from fedapm_mpi.training.model_fingerprint import same_as_begun
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.provenance import gather_ranks, provenance
from fedapm_mpi.training.trust import mark_run
from fedapm_mpi.utils import affinity as cores
from fedapm_mpi.utils.atomic_io import WriteError, write_text
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
    directory
        The run directory; `None` makes a new one in `out`.
    out
        Where new run directories are made.
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
    context = open_context(config, comm)
    config = context.config  # threads are a number now
    identity = run_identity(comm, config, context.federation.manifest.sha256)
    recorder = _open_directory(context, directory, out, resume, break_lock)
    try:
        return _train(
            context,
            recorder,
            identity,
            resume=resume,
            progress=progress,
            stop=stop or PreemptionGuard(),
            accept_changed_parts=accept_changed_parts,
        )
    finally:
        if recorder.lock is not None:
            recorder.lock.release()


def _train(
    context: TrainingContext,
    recorder: RunDirectory,
    identity: dict[str, Any],
    *,
    resume: bool,
    progress: ProgressKind,
    stop: PreemptionGuard,
    accept_changed_parts: bool,
) -> TrainedRun:
    """Train in a directory that is this run's."""
    comm = context.comm
    again = f"fedapm train --resume {recorder.path}"
    stop.hint = f"continue from the last checkpoint with: {again}"
    notes: list[str] = []
    accepted: list[str] = []
    saved = None
    if resume:
        saved = _checkpoint_of(
            context,
            recorder,
            identity,
            notes,
            accept_changed_parts=accept_changed_parts,
            accepted=accepted,
        )
    _keep_built_model(context, recorder, resumed=saved is not None)
    sources = identity.get(plugin_sources.KEY)
    _write_run_metadata(context, recorder, saved, notes, progress, (sources, accepted))
    loggers = open_loggers(
        context,
        recorder,
        first_round=saved.round_index if saved else 0,
        progress=progress,
    )
    with _hint_at_resume():
        try:
            outcome = loop.train(
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
        digest, summary = _write_final_state(context, recorder, outcome)
    if comm.rank == SERVER:
        _report_result(context, recorder, outcome, digest, summary, progress)
    return TrainedRun(recorder.path, digest, outcome.exit_code)


@contextmanager
def _hint_at_resume() -> Iterator[None]:
    """Add to the error of a write that the run, which has begun, can be resumed."""
    try:
        yield
    except WriteError as error:
        error.args = (f"{error}, then continue with --resume",)
        raise


def digest_of(context: TrainingContext, outcome: TrainingResult) -> str | None:
    """Return the digest of the final state, on the server; a collective call."""
    comm, homes = context.comm, context.federation.homes
    rows = comm.gatherv(context.table.digests(), homes.counts(comm.size))
    if rows is None:
        return None
    server = outcome.server
    return run_digest([server.rows, server.buffers], rows[homes.client_order()])


def dry_run(comm: Communicator, config: Config) -> int:
    """Check everything and print what a run would take; a collective call."""
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


def _checkpoint_of(
    context: TrainingContext,
    recorder: RunDirectory,
    identity: dict[str, Any],
    notes: list[str],
    *,
    accept_changed_parts: bool,
    accepted: list[str],
) -> checkpoint.CheckpointInfo | None:
    """Return the checkpoint to continue from; `None` if there is none yet."""
    comm, rounds = context.comm, context.config.rounds
    # Damaged ones count, and must be reported; a draft that a crash left does not.
    there = False
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        try:
            there = any_ever(recorder.checkpoints)
        except OSError as caught:
            error = WriteError(f"cannot read {recorder.checkpoints}: {caught.strerror}")
    comm.raise_collectively(error)
    if not comm.bcast_object((there,))[0]:
        notes.append("no checkpoint yet: starting from the beginning")
        return None
    saved = checkpoint.load_newest(comm, recorder.checkpoints, notes)
    if comm.rank == SERVER:
        config = context.config
        sources = changed_sources(saved.identity, identity)
        if accept_changed_parts:
            notes += [f"{one}: accepted by {plugin_sources.FLAG}" for one in sources]
            accepted += sources
        try:
            check_same_run(recorder.path, saved.identity, identity, config)
            if sources and not accept_changed_parts:
                raise plugin_sources.refusal(recorder.path, sources)
            if saved.round_index > rounds:
                msg = (
                    f"{recorder.path} has done {saved.round_index} rounds, more "
                    f"than the {rounds} asked for; to do fewer, start a new run"
                )
                raise ConfigError(msg)
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    return saved


def _keep_built_model(
    context: TrainingContext, recorder: RunDirectory, *, resumed: bool
) -> None:
    """See `model_fingerprint.same_as_begun`; a collective call."""
    error: FedAPMError | None = None
    if context.comm.rank == SERVER:
        try:
            note = same_as_begun(recorder.path, context.built, resumed=resumed)
            context.warnings.extend([note] if note else [])
        except FedAPMError as caught:
            error = caught
    context.comm.raise_collectively(error)


def _write_run_metadata(
    context: TrainingContext,
    recorder: RunDirectory,
    saved: checkpoint.CheckpointInfo | None,
    notes: list[str],
    progress: str,
    sources: tuple[Any, list[str]],
) -> None:
    """Write the run's metadata and print a summary; a collective call."""
    ranks = gather_ranks(context)
    error: FedAPMError | None = None
    if ranks is not None:
        from fedapm_mpi.config.yaml_io import dump
        from fedapm_mpi.tracking.tables import print_parameter_table
        from fedapm_mpi.utils.terminal import echo

        try:
            make_directory(recorder.checkpoints)
            clean(recorder.checkpoints)
            notes += recorder.truncate_after(saved.round_index if saved else -1)
            text = dump(context.config.plain())
            write_text(recorder.path / "config.yaml", text)
            origin = provenance(context, ranks)
            origin |= plugin_sources.record(recorder.path, *sources)
            recorder.write_json("provenance.json", origin)
            unmarked = mark_run(recorder.path, context.config.plain())
            notes += [unmarked] if unmarked else []
            rows = context.groups.table()
            recorder.write_csv("split.csv", rows[0]._fields, rows)
        except FedAPMError as caught:
            error = caught
        idle = set(range(context.comm.size)) - set(client_ranks(context.comm.size))
        for text in [*context.warnings, *cores.notes(ranks, idle), *notes]:
            log.info("%s", text)
        if progress != "none":
            print_parameter_table(context.groups.table())
            after = f", continuing after round {saved.round_index}" if saved else ""
            echo(f"run directory: {recorder.path}{after}")
    context.comm.raise_collectively(error)


def _write_final_state(
    context: TrainingContext, recorder: RunDirectory, outcome: TrainingResult
) -> tuple[str | None, dict[str, Any]]:
    """Write the final state, unless the run stopped early; a collective call.

    Returns the digest and the summary, on the server.
    """
    digest = digest_of(context, outcome)
    summary: dict[str, Any] = {}
    if outcome.exit_code == EXIT_RESUMABLE:
        return digest, summary
    comm, final = context.comm, recorder.path / "final"
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        error = checkpoint.fresh_directory(final)
    comm.raise_collectively(error)
    sums: dict[str, str] = {}
    try:
        written = checkpoint.write_states(
            final, comm.rank, context.table.materialized()
        )
        sums = {entry["name"]: entry["sha256"] for entry in written}
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)
    everyone = comm.gather_object(sums)
    try:
        if everyone is not None:
            u = outcome.server.rows[0].to(context.dtype)
            named = context.groups.space.named(u)
            write_tensors(final / "shared.safetensors", named)
            write_tensors(final / "server.safetensors", outcome.server.tensors())
            metrics = context.task.metric_set()
            summary = summarize_run(recorder.records(), metrics, outcome.round_index)
            recorder.write_json("summary.json", summary)
            write_sums(final, everyone)
            write_text(final / "digest.txt", f"{digest}\n")
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)
    return digest, summary


def _report_result(
    context: TrainingContext,
    recorder: RunDirectory,
    outcome: TrainingResult,
    digest: str | None,
    summary: dict[str, Any],
    progress: str,
) -> None:
    from fedapm_mpi.utils.terminal import echo

    if outcome.exit_code == EXIT_RESUMABLE:
        echo(
            f"stopped after round {outcome.round_index} of {context.config.rounds}; "
            f"continue with: fedapm train --resume {recorder.path}"
        )
        return
    if summary["num_missing_rounds"]:
        log.info(
            "the summary is without the lost records of rounds %.200s",
            summary["missing_rounds"],
        )
    metrics = context.task.metric_set()
    if progress != "none":
        if summary["evaluations"]:
            from fedapm_mpi.tracking.tables import print_summary

            print_summary(summary, context.config.evaluation.split, metrics.names)
        found = remarks(summary, metrics.headline, context.federation.num_clients)
        for text in [*found, *context.task.remarks(summary)]:
            log.info("%s", text)
    echo(f"digest {digest}")
