"""Find the checkpoint from which a run continues, and check that it may."""

from typing import Any

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config import plugin_sources
from fedapm_mpi.errors import ConfigError, FedAPMError, WriteError
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage.checkpoint_folder import any_ever
from fedapm_mpi.tracking.run_directory import (
    RunDirectory,
)
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.identity import (
    changed_sources,
    check_same_run,
)
from fedapm_mpi.training.model_fingerprint import same_as_begun


def find_checkpoint(
    context: TrainingContext,
    directory: RunDirectory,
    identity: dict[str, Any],
    notes: list[str],
    *,
    accept_changed_parts: bool,
    accepted: list[str],
) -> checkpoint.CheckpointInfo | None:
    """Return the checkpoint to continue from; a collective call.

    Parameters
    ----------
    context
        The parts of the run.
    directory
        The run directory.
    identity
        Of the present run.
    notes
        Gets sentences for the user.
    accept_changed_parts
        Whether to continue although the source of a user's plug-in has changed.
    accepted
        Gets a sentence for each change that is accepted.

    Returns
    -------
    CheckpointInfo or None
        `None` if the run has made no checkpoint yet.

    Raises
    ------
    FedAPMError
        If all checkpoints are damaged, or the run differs from the one that made them.
    """
    comm = context.comm
    if not _has_checkpoint(comm, directory):
        notes.append("no checkpoint yet: starting from the beginning")
        return None
    saved = checkpoint.load_newest(comm, directory.checkpoints, notes)
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        sources = changed_sources(saved.identity, identity)
        if accept_changed_parts:
            notes += [f"{one}: accepted by {plugin_sources.FLAG}" for one in sources]
            accepted += sources
            sources = []
        try:
            _check_checkpoint(context, directory, saved, identity, sources)
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    return saved


def _has_checkpoint(comm: Communicator, directory: RunDirectory) -> bool:
    """Return whether a run has ever made a checkpoint; a collective call."""
    # Damaged ones count, and must be reported; a draft that a crash left does not.
    there = False
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        folder = directory.checkpoints
        try:
            there = any_ever(folder)
        except OSError as caught:
            error = WriteError(f"cannot read {folder}: {caught.strerror}")
    comm.raise_collectively(error)
    found: tuple[bool] = comm.bcast_object((there,))
    return found[0]


def _check_checkpoint(
    context: TrainingContext,
    directory: RunDirectory,
    saved: checkpoint.CheckpointInfo,
    identity: dict[str, Any],
    changed: list[str],
) -> None:
    """Raise `ConfigError` if a run may not continue from a checkpoint.

    `changed` are sentences on changed sources that are not accepted.
    """
    path, rounds = directory.path, context.config.rounds
    check_same_run(path, saved.identity, identity, context.config)
    if changed:
        raise plugin_sources.refusal(path, changed)
    if saved.round_index > rounds:
        msg = (
            f"{path} has done {saved.round_index} rounds, more than the {rounds} asked "
            "for; to do fewer, start a new run"
        )
        raise ConfigError(msg)


def check_built_model(
    context: TrainingContext, directory: RunDirectory, *, resumed: bool
) -> None:
    """Record the built model, or compare it with the recorded one; collective.

    See `model_fingerprint.same_as_begun`.
    """
    error: FedAPMError | None = None
    if context.comm.rank == SERVER:
        try:
            note = same_as_begun(directory.path, context.built, resumed=resumed)
            context.warnings.extend([note] if note else [])
        except FedAPMError as caught:
            error = caught
    context.comm.raise_collectively(error)
