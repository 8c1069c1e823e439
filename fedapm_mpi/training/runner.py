"""A whole job: from a configuration to a finished run directory."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config import plugin_sources as ownsources
from fedapm_mpi.config.diff import config_diff
from fedapm_mpi.config.renamed_keys import with_new_names
from fedapm_mpi.config.schema import RESULT_NEUTRAL, Config
from fedapm_mpi.errors import EXIT_RESUMABLE, ConfigError, FedAPMError
from fedapm_mpi.placements import client_ranks
from fedapm_mpi.plugins.loader import forbidden
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage.checkpoint_folder import any_ever, clean
from fedapm_mpi.storage.client_states import run_digest
from fedapm_mpi.storage.final_state import write_sums
from fedapm_mpi.tracking.run_directory import (
    RunDirectory,
    make_directory,
    new_run_directory,
    own_directory,
)
from fedapm_mpi.tracking.summary import remarks, summarize_run
from fedapm_mpi.training.context import TrainingContext, open_context
from fedapm_mpi.training.loop import TrainingResult, run
from fedapm_mpi.training.model_fingerprint import same_as_begun
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.provenance import gather_ranks, provenance
from fedapm_mpi.training.trust import mark_run
from fedapm_mpi.utils import affinity as cores
from fedapm_mpi.utils.atomic_io import WriteError, file_sha256, write_text
from fedapm_mpi.utils.text import format_list


def train(
    comm: Communicator,
    config: Config,
    *,
    directory: Path | None = None,
    out: Path = Path("runs"),
    resume: bool = False,
    progress: str = "auto",
    stop: PreemptionGuard | None = None,
    break_lock: bool = False,
    accept_changed_parts: bool = False,
) -> int:
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
        Whether to go on from the last checkpoint in `directory`, if it has any.
    progress
        What to show: auto, live, lines or none.
    stop
        Whether the run is to stop at the next round border.
    break_lock
        Whether to take the directory from a job that may still own it on another host.
    accept_changed_parts
        Whether to go on though the source of a user's own part has changed.

    Returns
    -------
    int
        0, or 75 if the run was stopped and can go on.
    """
    session = open_context(config, comm)
    config = session.config  # threads are a number now
    identity = identity_of(config.plain()) | _hashes(session)
    recorder = _open_directory(session, directory, out, resume, break_lock)
    try:
        return _train(
            session,
            recorder,
            identity,
            resume=resume,
            progress=progress,
            stop=stop or PreemptionGuard(),
            accept_changed_parts=accept_changed_parts,
        )
    finally:
        if recorder.owner is not None:
            recorder.owner.release()


def _train(
    session: TrainingContext,
    recorder: RunDirectory,
    identity: dict[str, Any],
    *,
    resume: bool,
    progress: str,
    stop: PreemptionGuard,
    accept_changed_parts: bool,
) -> int:
    """Train in a directory that is this run's."""
    comm = session.comm
    again = f"fedapm train --resume {recorder.directory}"
    stop.hint = f"go on from the last checkpoint with: {again}"
    notes: list[str] = []
    accepted: list[str] = []
    saved = None
    if resume:
        saved = _checkpoint_of(
            session,
            recorder,
            identity,
            notes,
            accept_changed_parts=accept_changed_parts,
            accepted=accepted,
        )
    _keep_built_model(session, recorder, resumed=saved is not None)
    sources = identity.get(ownsources.KEY)
    _write_run_metadata(session, recorder, saved, notes, progress, (sources, accepted))
    display = _display(comm, progress, session.config.rounds, saved)
    try:
        outcome = run(
            session,
            recorder,
            resume=saved,
            identity=identity,
            tell=display.show if display else lambda record: None,
            stop=stop,
        )
    finally:
        if display:
            display.close()
    digest, summary = _write_final_state(session, recorder, outcome)
    if comm.rank == SERVER:
        _report_result(session, recorder, outcome, digest, summary, progress)
    return outcome.exit_code


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two runs must have in common for one to go on from the other.

    As plain JSON, which has lists only, so that it equals itself once read back.
    """
    whole = ownsources.portable(config)
    kept = {key: v for key, v in whole.items() if key not in RESULT_NEUTRAL}
    identity: dict[str, Any] = json.loads(json.dumps(kept))
    return identity


def _hashes(session: TrainingContext) -> dict[str, Any]:
    """Return the hashes of the files that a run starts from; a collective call."""
    path = session.config.initial_model
    found: str | None = None
    sources: dict[str, str] = {}
    error: FedAPMError | None = None
    if session.comm.rank == SERVER:
        try:
            sources = ownsources.hashes(session.config.plain())
            found = None if path is None else file_sha256(Path(path))
        except OSError as caught:
            error = ConfigError(f"cannot read {path}: {caught.strerror or caught}")
        except FedAPMError as caught:
            error = caught
    session.comm.raise_collectively(error)
    hashes: dict[str, Any] = {"manifest": session.manifest.sha256}
    if path is not None:
        hashes["initial_model_sha256"] = session.comm.bcast_object(found)
    sources = session.comm.bcast_object(
        sources if session.comm.rank == SERVER else None
    )
    return hashes | ({ownsources.KEY: sources} if sources else {})


def identity_then(
    values: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the identity of a saved configuration, with options that came after it.

    They count with their defaults, which do what was done before there was a choice:
    so a run can go on after an upgrade.

    Parameters
    ----------
    values
        What was saved; keys that are neutral to results may be missing.
    config
        Under which the run is to go on.
    """
    from fedapm_mpi.config.loader import validate

    renamed, _ = with_new_names(values)
    whole = {**renamed, **{key: config[key] for key in RESULT_NEUTRAL}}
    # A saved configuration may be anybody's. It never has a part imported, nor its
    # options given to a user's own code. Where it is no configuration at all, it is
    # compared as it is.
    with suppress(ConfigError, LookupError, TypeError, ValueError):
        with forbidden("a saved configuration names it"):
            whole = validate(whole, "saved").plain()
        whole = ownsources.with_defaults(whole, config)
    if config["threads"] == "auto":  # whatever number came of it then
        whole["threads"] = "auto"
    return identity_of(whole)


def digest_of(session: TrainingContext, outcome: TrainingResult) -> str | None:
    """Return the digest of the final state, on the server; a collective call."""
    comm, homes = session.comm, session.homes
    rows = comm.gatherv(session.table.digests(), homes.counts(comm.size))
    if rows is None:
        return None
    server = outcome.server
    return run_digest([server.rows, server.buffers], rows[homes.client_order()])


def dry_run(comm: Communicator, config: Config) -> int:
    """Check everything and tell what a run would take; a collective call."""
    session = open_context(config, comm)
    from fedapm_mpi.training.dry_run import measure, memory, print_plan

    seconds = measure(session)
    slowest = comm.allreduce_max([seconds])[0]
    memories = comm.gather_object(memory(session))
    if memories is not None:
        print_plan(session, slowest, memories)
    return 0


def _open_directory(
    session: TrainingContext,
    directory: Path | None,
    out: Path,
    resume: bool,
    break_lock: bool,
) -> RunDirectory:
    """Make or find the run directory and become its owner; a collective call."""
    comm, config = session.comm, session.config
    error: FedAPMError | None = None
    made = directory
    mine = None
    if comm.rank == SERVER:
        from fedapm_mpi.tracking.progress import echo

        try:
            if made is None:
                algorithm = config.algorithm["name"].rpartition(":")[2]
                stem = f"{session.manifest.dataset}-{algorithm}"
                made = new_run_directory(out, stem)
            mine = own_directory(
                made,
                resume=resume,
                break_lock=break_lock,
                tell=lambda text: echo(f"note: {text}"),
            )
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    return RunDirectory(comm.bcast_object(made), mine)


def _checkpoint_of(
    session: TrainingContext,
    recorder: RunDirectory,
    identity: dict[str, Any],
    notes: list[str],
    *,
    accept_changed_parts: bool,
    accepted: list[str],
) -> checkpoint.CheckpointInfo | None:
    """Return the checkpoint to go on from; `None` if the run has not made one yet."""
    comm, rounds = session.comm, session.config.rounds
    # Damaged ones count, and must be told of; a draft that a crash left does not.
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
        hashes = ("manifest", "initial_model_sha256")
        left_out = (*hashes, ownsources.KEY)
        then = {key: v for key, v in saved.identity.items() if key not in left_out}
        with suppress(LookupError, TypeError, AttributeError, ValueError):
            then = identity_then(then, session.config.plain())
        then |= {key: saved.identity[key] for key in hashes if key in saved.identity}
        now = {key: v for key, v in identity.items() if key != ownsources.KEY}
        differing = config_diff(then, now)
        sources = ownsources.changed(
            saved.identity.get(ownsources.KEY), identity.get(ownsources.KEY, {})
        )
        if accept_changed_parts:
            notes += [f"{one}: accepted by {ownsources.FLAG}" for one in sources]
            accepted += sources
        if differing:
            error = ConfigError(
                f"{recorder.directory} cannot go on under another configuration:\n"
                + format_list(differing)
            )
        elif sources and not accept_changed_parts:
            error = ownsources.refusal(recorder.directory, sources)
        elif saved.round_index > rounds:
            error = ConfigError(
                f"{recorder.directory} has done {saved.round_index} rounds, more than "
                f"the {rounds} asked for; to do fewer, start a new run"
            )
    comm.raise_collectively(error)
    return saved


def _keep_built_model(
    session: TrainingContext, recorder: RunDirectory, *, resumed: bool
) -> None:
    """See `builtmodel.same_as_begun`; a collective call."""
    error: FedAPMError | None = None
    if session.comm.rank == SERVER:
        try:
            note = same_as_begun(recorder.directory, session.built, resumed=resumed)
            session.warnings.extend([note] if note else [])
        except FedAPMError as caught:
            error = caught
    session.comm.raise_collectively(error)


def _write_run_metadata(
    session: TrainingContext,
    recorder: RunDirectory,
    saved: checkpoint.CheckpointInfo | None,
    notes: list[str],
    progress: str,
    sources: tuple[Any, list[str]],
) -> None:
    """Write down what is about to run, and tell it."""
    ranks = gather_ranks(session)
    error: FedAPMError | None = None
    if ranks is not None:
        from fedapm_mpi.config.yaml_io import dump
        from fedapm_mpi.tracking.progress import echo, print_parameter_table

        try:
            make_directory(recorder.checkpoints)
            clean(recorder.checkpoints)
            notes += recorder.truncate_after(saved.round_index if saved else -1)
            text = dump(session.config.plain())
            write_text(recorder.directory / "config.yaml", text)
            origin = provenance(session, ranks)
            origin |= ownsources.record(recorder.directory, *sources)
            recorder.write_json("provenance.json", origin)
            unmarked = mark_run(recorder.directory, session.config.plain())
            notes += [unmarked] if unmarked else []
            rows = session.groups.table()
            recorder.write_csv("split.csv", rows[0]._fields, rows)
        except FedAPMError as caught:
            error = caught
        idle = set(range(session.comm.size)) - set(client_ranks(session.comm.size))
        for text in [*session.warnings, *cores.notes(ranks, idle), *notes]:
            echo(f"note: {text}")
        if progress != "none":
            print_parameter_table(session.groups.table())
            goes_on = f", going on after round {saved.round_index}" if saved else ""
            echo(f"run directory: {recorder.directory}{goes_on}")
    session.comm.raise_collectively(error)


def _display(
    comm: Communicator,
    progress: str,
    rounds: int,
    saved: checkpoint.CheckpointInfo | None,
) -> Any:
    if comm.rank != SERVER:
        return None
    from fedapm_mpi.tracking.progress import progress_reporter

    start = saved.round_index if saved else 0
    return progress_reporter(progress, rounds, start)  # type: ignore[arg-type]


def _write_final_state(
    session: TrainingContext, recorder: RunDirectory, outcome: TrainingResult
) -> tuple[str | None, dict[str, Any]]:
    """Write the final state, unless the run stopped early; a collective call.

    Returns the digest and the summary, on the server.
    """
    digest = digest_of(session, outcome)
    summary: dict[str, Any] = {}
    if outcome.exit_code == EXIT_RESUMABLE:
        return digest, summary
    comm, final = session.comm, recorder.directory / "final"
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        error = checkpoint.fresh_directory(final)
    comm.raise_collectively(error)
    sums: dict[str, str] = {}
    try:
        written = checkpoint.write_states(
            final, comm.rank, session.table.materialized()
        )
        sums = {entry["name"]: entry["sha256"] for entry in written}
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)
    everyone = comm.gather_object(sums)
    try:
        if everyone is not None:
            u = outcome.server.rows[0].to(session.dtype)
            named = session.groups.space.named(u)
            checkpoint.write_tensors(final / "shared.safetensors", named)
            checkpoint.write_tensors(
                final / "server.safetensors", outcome.server.tensors()
            )
            summary = summarize_run(recorder.records(), outcome.round_index)
            recorder.write_json("summary.json", summary)
            write_sums(final, everyone)
            write_text(final / "digest.txt", f"{digest}\n")
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)
    return digest, summary


def _report_result(
    session: TrainingContext,
    recorder: RunDirectory,
    outcome: TrainingResult,
    digest: str | None,
    summary: dict[str, Any],
    progress: str,
) -> None:
    from fedapm_mpi.tracking.progress import echo

    if outcome.exit_code == EXIT_RESUMABLE:
        echo(
            f"stopped after round {outcome.round_index} of {session.config.rounds}; go "
            f"on with: fedapm train --resume {recorder.directory}"
        )
        return
    if summary["num_missing_rounds"]:
        echo(
            "note: the summary is without the lost records of rounds "
            f"{summary['missing_rounds']:.200}"
        )
    if progress != "none":
        if summary["evaluations"]:
            from fedapm_mpi.tracking.final_table import print_summary

            print_summary(summary, session.config.evaluation.split)
        for text in remarks(summary, session.num_clients):
            echo(f"note: {text}")
    echo(f"digest {digest}")
