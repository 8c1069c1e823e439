"""Write what a run leaves besides its records: metadata, final state, summary."""

from typing import Any

from fedapm_mpi.comm import SERVER
from fedapm_mpi.config import plugin_sources
from fedapm_mpi.engine.tensor_files import write_tensors
from fedapm_mpi.errors import EXIT_RESUMABLE, FedAPMError
from fedapm_mpi.placements import client_ranks
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage.checkpoint_folder import clean
from fedapm_mpi.storage.digest import run_digest
from fedapm_mpi.storage.final_state import write_sums
from fedapm_mpi.tracking.run_directory import (
    RunDirectory,
    make_directory,
)
from fedapm_mpi.tracking.summary import remarks, summarize_run
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.loop import TrainingResult
from fedapm_mpi.training.provenance import gather_ranks, provenance
from fedapm_mpi.training.trust import mark_run
from fedapm_mpi.utils import affinity as cores
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.log import get_logger

log = get_logger(__name__)


def write_run_metadata(
    context: TrainingContext,
    directory: RunDirectory,
    saved: checkpoint.CheckpointInfo | None,
    notes: list[str],
    progress: str,
    sources: tuple[Any, list[str]],
) -> None:
    """Write the run's metadata and print a summary; a collective call.

    Parameters
    ----------
    context
        The parts of the run.
    directory
        The run directory; rank 0 writes.
    saved
        The checkpoint from which the run continues.
    notes
        What to print besides warnings.
    progress
        What the command line asks to be shown.
    sources
        Hashes of the user's plug-ins, and sentences on changed ones that are accepted.
    """
    ranks = gather_ranks(context)
    error: FedAPMError | None = None
    if ranks is not None:
        from fedapm_mpi.config.yaml_io import dump
        from fedapm_mpi.tracking.tables import print_parameter_table
        from fedapm_mpi.utils.terminal import echo

        try:
            make_directory(directory.checkpoints)
            clean(directory.checkpoints)
            notes += directory.truncate_after(saved.round_index if saved else -1)
            text = dump(context.config.plain())
            write_text(directory.path / "config.yaml", text)
            origin = provenance(context, ranks)
            origin |= plugin_sources.record(directory.path, *sources)
            directory.write_json("provenance.json", origin)
            unmarked = mark_run(directory.path, context.config.plain())
            notes += [unmarked] if unmarked else []
            rows = context.groups.table()
            directory.write_csv("split.csv", rows[0]._fields, rows)
        except FedAPMError as caught:
            error = caught
        idle = set(range(context.comm.size)) - set(client_ranks(context.comm.size))
        for text in [*context.warnings, *cores.notes(ranks, idle), *notes]:
            log.info("%s", text)
        if progress != "none":
            print_parameter_table(context.groups.table())
            after = f", continuing after round {saved.round_index}" if saved else ""
            echo(f"run directory: {directory.path}{after}")
            unit = describe_units(context)
            if unit:
                echo(unit)
    context.comm.raise_collectively(error)


def describe_units(context: TrainingContext) -> str:
    """Return the unit of step sizes and penalties; nothing if there is no choice.

    A penalty that is copied from one unit to the other is off by the number of clients.
    """
    of_client = context.algorithm.client_units()
    if of_client is None:
        return ""
    if of_client:
        return "units: client (step sizes and penalties act on a client's own loss)"
    return (
        "units: weighted (step sizes and penalties act on a client's loss times its "
        f"weight, {1 / context.federation.num_clients:.3g} on average)"
    )


def digest_of(context: TrainingContext, result: TrainingResult) -> str | None:
    """Return the digest of the final state, on the server; a collective call."""
    comm, homes = context.comm, context.federation.homes
    rows = comm.gatherv(context.table.digests(), homes.counts(comm.size))
    if rows is None:
        return None
    server = result.server
    return run_digest([server.rows, server.buffers], rows[homes.client_order()])


def write_final_state(
    context: TrainingContext, directory: RunDirectory, result: TrainingResult
) -> tuple[str | None, dict[str, Any]]:
    """Write the final state, unless the run stopped early; a collective call.

    Returns
    -------
    str or None
        The digest, on the server.
    dict
        The summary, on the server; empty if the run stopped early.
    """
    digest = digest_of(context, result)
    summary: dict[str, Any] = {}
    if result.exit_code == EXIT_RESUMABLE:
        return digest, summary
    comm, final = context.comm, directory.path / "final"
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
            u = result.server.rows[0].to(context.dtype)
            named = context.groups.space.named(u)
            write_tensors(final / "shared.safetensors", named)
            write_tensors(final / "server.safetensors", result.server.tensors())
            metrics = context.task.metric_set()
            summary = summarize_run(directory.records(), metrics, result.round_index)
            directory.write_json("summary.json", summary)
            write_sums(final, everyone)
            write_text(final / "digest.txt", f"{digest}\n")
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)
    return digest, summary


def report_result(
    context: TrainingContext,
    directory: RunDirectory,
    result: TrainingResult,
    digest: str | None,
    summary: dict[str, Any],
    progress: str,
) -> None:
    """Print how a run ended, on the server.

    Parameters
    ----------
    context
        The parts of the run.
    directory
        The run directory.
    result
        How training ended.
    digest
        Of the final state.
    summary
        What `write_final_state` returned.
    progress
        What the command line asks to be shown.
    """
    from fedapm_mpi.utils.terminal import echo

    if result.exit_code == EXIT_RESUMABLE:
        echo(
            f"stopped after round {result.round_index} of {context.config.rounds}; "
            f"continue with: fedapm train --resume {directory.path}"
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
