"""The interface for Python programs: train, and read what a run left behind.

``import fedapm_mpi`` has these names as well, and imports this module when one of them
is used first.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.comm.runtime import call_on_ranks
from fedapm_mpi.config.schema import Config
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.tracking.base import ProgressKind
from fedapm_mpi.training.preemption import PreemptionGuard, job_end_time
from fedapm_mpi.training.runner import TrainedRun, train_run
from fedapm_mpi.utils.terminal import silenced

ConfigLike: TypeAlias = Config | Mapping[str, Any] | Path | str
"""A configuration, its keys and values, or the path of its YAML file."""

__all__ = [
    "Config",
    "ConfigLike",
    "Run",
    "TrainedRun",
    "load_client_model",
    "load_config",
    "load_run",
    "train",
]


def load_config(config: ConfigLike, /, **overrides: Any) -> Config:
    """Return a configuration, checked and with all defaults filled in.

    Parameters
    ----------
    config
        The experiment: a `Config`, a mapping as a YAML file has it, or such a file.
    **overrides
        Values that replace others. A mapping is merged, as in
        ``algorithm={"rho": 0.1}``; keys may be dotted, as in
        ``**{"algorithm.rho": 0.1}``.

    Returns
    -------
    Config
        The configuration. Paths in it are absolute.

    Raises
    ------
    ConfigError
        With every error that was found, one a line.

    Examples
    --------
    >>> config = load_config("mine.yaml", rounds=20)  # doctest: +SKIP
    """
    from fedapm_mpi.config.loader import read_yaml, resolve

    if isinstance(config, Config):
        values, where = config.plain(), "configuration"
    elif isinstance(config, Mapping):
        values, where = dict(config), "configuration"
    else:
        values, where = read_yaml(Path(config)), str(config)
    return resolve(values, list(overrides.items()), where)


def train(
    config: ConfigLike,
    /,
    *,
    run_dir: Path | str | None = None,
    out: Path | str = "runs",
    resume: bool = False,
    progress: ProgressKind | None = None,
    break_lock: bool = False,
    accept_changed_parts: bool = False,
    **overrides: Any,
) -> TrainedRun:
    """Train an experiment and leave a run directory, as ``fedapm train`` does.

    The digest is that of the command line. Under an MPI launcher every rank calls this
    with the same arguments.

    Parameters
    ----------
    config, **overrides
        The experiment, see `load_config`.
    run_dir
        The run directory; a new one in `out` unless given.
    out
        Folder in which new run directories are created.
    resume
        Whether to continue the run in `run_dir` from its last checkpoint, if any.
    progress
        As ``--progress``; `None` prints nothing, not even notes.
    break_lock, accept_changed_parts
        As on the command line.

    Returns
    -------
    TrainedRun
        The same on every rank. A run stops in time before the end of a SLURM job.

    Raises
    ------
    FedAPMError
        On every rank. An error of only some ranks is printed and ends the job.

    Examples
    --------
    >>> run = train("mine.yaml", rounds=20, algorithm={"rho": 0.1})  # doctest: +SKIP
    """
    if resume and run_dir is None:
        msg = "resume: name the run to continue by run_dir"
        raise ConfigError(msg)

    options = {
        "directory": None if run_dir is None else Path(run_dir),
        "out": Path(out),
        "resume": resume,
        "progress": progress or "none",
        "break_lock": break_lock,
        "accept_changed_parts": accept_changed_parts,
    }
    with silenced() if progress is None else nullcontext():
        return call_on_ranks(lambda comm: _train(comm, config, overrides, options))


def load_run(path: Path | str) -> Run:
    """Return a run directory: its configuration, records, summary and models.

    Parameters
    ----------
    path
        The run directory, of a run that has finished or is still training.

    Raises
    ------
    DataError
        If it is not a run directory, or its records cannot be read.
    """
    return Run.load(path)


def _train(
    comm: Communicator,
    config: ConfigLike,
    overrides: Mapping[str, Any],
    options: Mapping[str, Any],
) -> TrainedRun:
    """Train on all ranks, with the options of `train_run`; a collective call."""
    shared = _shared_config(comm, config, overrides)
    stop = PreemptionGuard(deadline=job_end_time())
    run = train_run(comm, shared, stop=stop, **options)
    return run._replace(digest=comm.bcast_object((run.digest,))[0])


def _shared_config(
    comm: Communicator, config: ConfigLike, overrides: Mapping[str, Any]
) -> Config:
    """Return the configuration that rank 0 reads, on every rank; a collective call."""
    plain: dict[str, Any] | None = None
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        try:
            plain = load_config(config, **overrides).plain()
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    shared: Any = comm.bcast_object((plain,))[0]
    return Config.from_plain(shared)
