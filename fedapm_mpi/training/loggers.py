"""Open the metrics loggers of a run on rank 0."""

from fedapm_mpi.comm import SERVER
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.plugins.names import plugin_label, user_plugin_label
from fedapm_mpi.tracking.base import (
    LoggerList,
    MetricsLogger,
    ProgressKind,
    RunInfo,
    loggers,
)
from fedapm_mpi.tracking.run_directory import RunDirectory
from fedapm_mpi.training.context import TrainingContext


def open_loggers(
    context: TrainingContext,
    directory: RunDirectory,
    *,
    first_round: int,
    progress: ProgressKind,
) -> LoggerList:
    """Return the loggers that the configuration names; a collective call.

    Parameters
    ----------
    context
        The parts of the run.
    directory
        The run directory, with the records of rounds up to `first_round`.
    first_round
        Rounds that are done.
    progress
        What the command line asks to be shown.

    Returns
    -------
    LoggerList
        On ranks other than the server it is empty.

    Raises
    ------
    ConfigError
        If a user's own logger cannot be built, or is no `MetricsLogger`.
    """
    opened: list[tuple[str | None, MetricsLogger]] = []
    error: FedAPMError | None = None
    if context.comm.rank == SERVER:
        metrics = context.task.metric_set()
        run = RunInfo(directory, context.config.plain(), metrics, first_round, progress)
        try:
            for part in context.config.loggers:
                opened.append(
                    (user_plugin_label("logger", part["name"]), _build(part, run))
                )
        except FedAPMError as caught:
            error = caught
    context.comm.raise_collectively(error)
    return LoggerList(opened)


def _build(part: dict[str, object], run: RunInfo) -> MetricsLogger:
    logger: object = build_plugin(loggers, part, run)
    if isinstance(logger, MetricsLogger):
        return logger
    what = plugin_label("logger", str(part["name"]))
    msg = (
        f"{what} returned {type(logger).__name__}; it must be, or return, a "
        "MetricsLogger of fedapm_mpi.tracking.base"
    )
    raise ConfigError(msg)
