"""Diagnose whether this cluster, job and environment will train well.

    mpiexec -n 6 fedapm doctor mine.yaml

checks hosts, launcher, MPI library, threads, GPUs, versions, collectives, the folder
of runs and, with a CONFIG or a directory of data, the shards on every host.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedapm_mpi.cli.arguments import Parser, is_override
from fedapm_mpi.cli.command import Command
from fedapm_mpi.comm import SERVER, Communicator, Serial
from fedapm_mpi.comm.launch_env import launched_rank
from fedapm_mpi.comm.runtime import ABORT_PATIENCE, on_ranks
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.utils.log import get_logger

if TYPE_CHECKING:
    from fedapm_mpi.doctor.runner import DoctorOptions

log = get_logger(__name__)

HELP = "diagnose this cluster and job; may be started under mpiexec"

TIMEOUT = 60.0
"""Seconds that a step may take."""

LOADING_SECONDS = 300.0
"""Seconds that ranks may take to load large libraries, all from one file system."""

PREFLIGHT_TIMEOUT = 30.0
"""Seconds that ranks which cannot see each other give rank 0 to report."""


class DoctorCommand(Command["DoctorOptions"]):
    """Diagnose the cluster, the job and the environment."""

    parallel = True
    prints_result = False

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument(
            "subjects",
            nargs="*",
            metavar="CONFIG or DATA",
            help="YAML file of an experiment, then key=value to replace its values; or "
            "directory of a prepared data set",
        )
        parser.add_argument(
            "--run-dir",
            type=Path,
            metavar="DIR",
            help="folder of future runs, tested as a shared folder (default: runs, or "
            "else the current folder)",
        )
        parser.old_flags["--folder"] = "--run-dir"
        parser.add_argument(
            "--size",
            type=float,
            default=8.0,
            metavar="MB",
            help="size of the broadcast and the sum that are timed (default: 8)",
        )
        add_timeout(parser)
        parser.add_argument(
            "--json", type=Path, metavar="FILE", help="write all observations as JSON"
        )

    def start(
        self, words: Sequence[str], parse: Callable[[], argparse.Namespace]
    ) -> int:
        """Check what can be checked before MPI starts, then run on every rank."""
        from fedapm_mpi.doctor import preflight
        from fedapm_mpi.doctor.watchdog import Watchdog

        first = launched_rank() == SERVER
        if (warning := preflight.run_preflight()) is not None:
            if first:
                print_error(warning, "warning")
            else:  # MPI may end rank 0 before its warning is printed
                time.sleep(ABORT_PATIENCE)
        none = preflight.InstalledLaunchers()
        self._launchers = preflight.installed_launchers() if first else none
        self._watch = Watchdog(read_timeout(words))
        try:
            return on_ranks(
                lambda comm: self.run_parsed(comm, parse),
                lambda error: self._run_disconnected(error, parse),
            )
        finally:
            self._watch.close()

    def run_parsed(
        self, comm: Communicator, parse: Callable[[], argparse.Namespace]
    ) -> int:
        """Load torch, read on rank 0, then run on every rank; a collective call."""
        watch = self._watch
        watch.set_rank(comm.rank, comm.size, comm.abort)
        patience = watch.seconds
        watch.step("loading torch", max(patience, LOADING_SECONDS))
        from fedapm_mpi.doctor import runner  # noqa: F401

        comm.barrier()  # in this step, which may take longer than others
        watch.step("reading the command line", patience)
        return super().run_parsed(comm, parse)

    def read(self, args: argparse.Namespace) -> "DoctorOptions":
        """Return what to diagnose."""
        return read_options(args)

    def run(self, comm: Communicator, options: "DoctorOptions") -> int:
        """Probe, check and report; return the exit code."""
        from fedapm_mpi.doctor.runner import observe, run_all_checks

        self._watch.step("beginning", options.timeout)
        observed = observe(comm, options, self._launchers, self._watch)
        code, error = 0, None
        if observed is not None:
            try:
                code = run_all_checks(observed, options)
            except FedAPMError as caught:
                error = caught
        comm.raise_collectively(error)
        return comm.bcast_object((code,))[0]

    def _run_disconnected(
        self, error: FedAPMError, parse: Callable[[], argparse.Namespace]
    ) -> None:
        """Report why ranks cannot see each other; nothing else can be tested then."""
        self._watch.close()
        if launched_rank() != SERVER:
            time.sleep(PREFLIGHT_TIMEOUT)
            return
        from fedapm_mpi.doctor.findings import Observations
        from fedapm_mpi.doctor.runner import gather_rank_info, run_all_checks

        try:
            options = read_options(parse())
            ranks = gather_rank_info(Serial(), self._watch) or []
            seen = Observations(ranks=ranks, launchers=self._launchers)
            run_all_checks(seen, options)
        except FedAPMError as another:
            print_error(str(error), "fault")
            print_error(str(another), "error")


COMMAND = DoctorCommand()


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Declare how long a step may take, which every rank reads for itself."""
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="limit of a step, after which the job ends with a report of where each "
        f"rank is (default: {TIMEOUT:g})",
    )


def print_error(text: str, level: str) -> None:
    """Print a sentence in one write."""
    number = logging.WARNING if level == "warning" else logging.ERROR
    log.log(number, "%s", text, extra={"prefix": f"fedapm doctor: {level}: "})


def read_options(args: argparse.Namespace) -> "DoctorOptions":
    """Return what to diagnose.

    Raises
    ------
    ConfigError
        If the arguments or the configuration are not valid.
    """
    from fedapm_mpi.doctor.runner import DoctorOptions, Subject

    for name, value in (("--timeout", args.timeout), ("--size", args.size)):
        if not 0 < value < float("inf"):
            msg = f"{name} must be above 0, not {value:g}"
            raise ConfigError(msg)
    overrides = [word for word in args.subjects if is_override(word)]
    paths = [Path(word) for word in args.subjects if not is_override(word)]
    files = [path for path in paths if not path.is_dir()]
    if len(files) > 1:
        msg = f"name one CONFIG at most, not {' and '.join(map(str, files))}"
        raise ConfigError(msg)
    if overrides and not files:
        msg = f"{overrides[0]} replaces a value of a CONFIG, but there is none"
        raise ConfigError(msg)
    subjects = [
        Subject(directory=str(path.absolute())) for path in paths if path.is_dir()
    ]
    chosen = {
        "folder": _run_folder(args.run_dir).absolute(),
        "megabytes": args.size,
        "timeout": args.timeout,
        "json": args.json,
    }
    if not files:
        return DoctorOptions(subjects=subjects, **chosen)
    if not files[0].exists():
        msg = f"{files[0]} is neither a CONFIG nor a directory of data"
        raise ConfigError(msg)
    from fedapm_mpi.config.loader import load

    config = load(files[0], overrides)
    own = Subject(
        directory=config.data, placement=config.placement, clients=config.clients
    )
    return DoctorOptions(
        subjects=[own, *subjects],
        threads=config.threads,
        device=config.device,
        kernels=config.kernels,
        scratch=config.scratch,
        **chosen,
    )


def _run_folder(named: Path | None) -> Path:
    if named is None:
        runs = Path("runs")
        return runs if runs.is_dir() else Path()
    if not named.is_dir():
        msg = f"--run-dir: {named} is not a folder; create it, or name another"
        raise ConfigError(msg)
    return named


def read_timeout(words: Sequence[str]) -> float:
    """Return what the command line says, or the default where it is not valid."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    add_timeout(parser)
    try:
        seconds: float = parser.parse_known_args(list(words))[0].timeout
    except argparse.ArgumentError:
        return TIMEOUT
    return seconds if seconds > 0 else TIMEOUT
