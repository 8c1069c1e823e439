"""Start ranks with the launcher that fits this machine, and print its command.

    fedapm launch -n 5 train mine.yaml rounds=20

is ``mpiexec -n 5 fedapm train mine.yaml rounds=20`` with the mpiexec of the MPI library
that Python loads, or with an srun that supports it, and the options that it needs.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from fedapm_mpi.cli.arguments import Parser, asks_for_help
from fedapm_mpi.cli.command import (
    COMMANDS,
    LocalCommand,
    load_command,
    parallel_commands,
)
from fedapm_mpi.cluster.launch import command, launcher_version, library, python_command
from fedapm_mpi.cluster.launchers import Job
from fedapm_mpi.cluster.output_relay import relay_outputs
from fedapm_mpi.cluster.supervisor import report_failure, requeue, run_launcher
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.log import get_logger

log = get_logger(__name__)

HELP = "start ranks with the launcher that fits this machine"


class LaunchCommand(LocalCommand):
    """Start ranks."""

    prints_result = False

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        add_placing(parser)
        parser.add_argument(
            "--requeue",
            action="store_true",
            help="wait for the ranks, pass signals on to them, and requeue the SLURM "
            "job if the run stops early",
        )
        parser.add_argument(
            "--container",
            metavar="IMAGE",
            help="Apptainer image in which every rank runs",
        )
        parser.add_argument(
            "--print",
            action="store_true",
            help="print the launcher's command and start nothing",
        )
        parser.add_argument(
            "words",
            nargs=argparse.REMAINDER,
            metavar="COMMAND ...",
            help="command of all ranks, with arguments: train, prepare, extract or "
            "doctor",
        )

    def execute(self, args: argparse.Namespace) -> int:
        """Become the launcher; return only if there is something else to do."""
        words = args.words[1:] if args.words[:1] == ["--"] else args.words
        if not words:
            msg = "name the command of the ranks: fedapm launch -n 3 train CONFIG"
            raise ConfigError(msg)
        job = job_of(args)
        if job.ranks > 1 and not _is_parallel(words[0]):
            known = parallel_commands()
            hint = did_you_mean(words[0], known)
            msg = (
                f"{words[0]!r} does not run on ranks{hint} (known: {', '.join(known)})"
            )
            raise ConfigError(msg)
        _check(words)
        python = python_command(args.container)
        chosen = command(job, words, launcher=args.launcher, python=python)
        if args.container is not None:
            _print_versions(chosen[0], python)
        if args.print:
            print(shlex.join(chosen))  # noqa: T201
            return 0
        sys.stdout.flush()
        log.warning("%s", shlex.join(chosen), extra={"prefix": "+ "})
        os.environ.setdefault("OMP_NUM_THREADS", str(args.cpus_per_rank))
        relay_outputs()
        if args.requeue:
            ended = run_launcher(chosen)
            if ended.resumable:
                requeue()
            else:
                report_failure(ended)
            return ended.code
        try:  # in place of this process, so that signals reach the launcher
            os.execv(chosen[0], chosen)
        except OSError as error:
            msg = f"cannot start {chosen[0]}: {error.strerror}"
            raise ConfigError(msg) from error


COMMAND = LaunchCommand()


def add_placing(parser: Parser) -> None:
    """Declare which ranks are wanted, and by which launcher."""
    parser.add_argument(
        "-n",
        "--ranks",
        type=int,
        metavar="N",
        help="ranks in all (default: the tasks of the job, or else 1)",
    )
    parser.add_argument(
        "--ranks-per-node", type=int, metavar="N", help="ranks on each node"
    )
    parser.add_argument(
        "--cpus-per-rank",
        type=int,
        default=1,
        metavar="N",
        help="cores for each rank (default: 1)",
    )
    parser.add_argument(
        "--launcher",
        default="auto",
        help="srun, mpich, openmpi, intel, mpiexec for any of these three, or your own "
        "module:function (default: auto)",
    )
    parser.add_argument(
        "--mpi-type",
        default="auto",
        help="value of srun's --mpi, such as pmi2 or pmix (default: auto)",
    )
    parser.add_argument(
        "--gpu-bind",
        metavar="KIND",
        help="value of srun's --gpu-bind, such as none or closest",
    )
    parser.old_flags |= {"--cores": "--cpus-per-rank", "--gpu-binding": "--gpu-bind"}


def job_of(args: argparse.Namespace) -> Job:
    """Return the ranks that the command line asks for.

    Raises
    ------
    ConfigError
        If a number is not above 0.
    """
    ranks = tasks() if args.ranks is None else args.ranks
    for name, value in (
        ("-n", ranks),
        ("--ranks-per-node", args.ranks_per_node),
        ("--cpus-per-rank", args.cpus_per_rank),
    ):
        if value is not None and value < 1:
            msg = f"{name} must be at least 1, not {value}"
            raise ConfigError(msg)
    return Job(
        ranks=ranks,
        ranks_per_node=args.ranks_per_node,
        cores=args.cpus_per_rank,
        mpi_type=args.mpi_type,
        gpu_binding=args.gpu_bind,
    )


def tasks() -> int:
    """Return how many tasks the scheduler's job has; 1 outside of any."""
    names = ("SLURM_NTASKS", "PBS_NP", "LSB_DJOB_NUMPROC")
    for name in names:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    nodes = os.environ.get("SLURM_JOB_NUM_NODES", "")
    each = os.environ.get("SLURM_NTASKS_PER_NODE", "1")
    if nodes.isdigit() and each.isdigit():
        return int(nodes) * int(each)
    file = os.environ.get("PBS_NODEFILE")
    if file and Path(file).is_file():
        return len(Path(file).read_text("utf-8").split())
    return 1


def _print_versions(launcher: str, python: tuple[str, ...]) -> None:
    """Print the releases of launcher and library, which are of one kind."""
    own, inside = launcher_version(launcher), library(python)
    text = f"{inside}; launcher: {own or 'unknown'}"
    log.warning("%s", text, extra={"prefix": "container: "})


def _is_parallel(name: str) -> bool:
    return name in COMMANDS and load_command(name).parallel


def _check(words: list[str]) -> None:
    """Refuse a command line that ranks would refuse, before they are started."""
    from fedapm_mpi.cli.main import parser  # which imports this

    if words[0] not in COMMANDS or asks_for_help(words):
        return
    try:
        parser(words[:1]).parse_args(words)
    except ConfigError as error:
        placing = Parser()
        add_placing(placing)
        own = placing.known_flags()
        if any(word.partition("=")[0] in own for word in words):
            msg = f"{error}; options of launch stand before {words[0]}"
            raise ConfigError(msg) from error
        raise
