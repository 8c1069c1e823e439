"""Train a federated experiment on one process, or on many ranks under a launcher."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedapm_mpi.cli.arguments import Parser, is_run, optional_value, split_words
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.comm.runtime import on_ranks, run_on_server
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.preemption import PreemptionGuard, stop_signals
from fedapm_mpi.utils.duration import parse_duration
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.text import truncate

log = get_logger(__name__)

HELP = "train an experiment, on one process or under mpiexec or srun"


@dataclass(frozen=True)
class TrainOptions:
    """What rank 0 makes of the command line, for all ranks."""

    config: dict[str, Any]
    directory: Path | None = None
    """The run to go on with, or the directory asked for a new one."""

    out: Path = Path("runs")
    resume: bool = False
    dry_run: bool = False
    progress: Any = "auto"
    seconds: float | None = None
    """Time that the run may take."""

    break_lock: bool = False
    accept_changed_parts: bool = False


def add_arguments(parser: Parser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG", help="YAML file of the experiment"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="replace a value, such as algorithm.rho=0.1",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        help="folder in which the run directory is made (default: runs)",
    )
    parser.add_argument(
        "--run-dir", type=Path, help="the run directory itself, instead of --out"
    )
    resume = parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN",
        help="go on with a run: RUN, or --run-dir, or else the newest run of this "
        "experiment in --out; with --run-dir and nothing there yet, start it; a "
        "KEY=VALUE or a YAML file after it is no RUN",
    )
    optional_value(resume, is_run)
    parser.add_argument(
        "--break-lock",
        action="store_true",
        help="take the run directory from a job on another host that still seems to "
        "own it; only where that job is known to be dead",
    )
    parser.add_argument(
        "--accept-changed-parts",
        action="store_true",
        help="go on with a run though the code of its own parts has changed",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import the own parts that RUN names, though it was not made here",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved configuration"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, tell placement, bytes, memory and time, and stop",
    )
    parser.add_argument(
        "--walltime",
        metavar="TIME",
        help="stop at a round border, with a checkpoint and exit code 75, so that all "
        "is over after this time, written as for sbatch --time, such as 2:00:00 "
        "(default: the end of the SLURM job, if any)",
    )
    parser.add_argument(
        "--progress",
        choices=("auto", "live", "lines", "none"),
        default="auto",
        help="auto is live on a terminal and one line a round elsewhere; under a "
        "launcher rank 0 sees no terminal, so ask for live there",
    )


def run(args: argparse.Namespace) -> int:
    """Not used: `main` parses on rank 0 only."""
    raise NotImplementedError


def main(argv: Sequence[str]) -> int:
    """Run the command on every rank; return the exit code."""
    with stop_signals() as stop:
        return on_ranks(lambda comm: _train(comm, argv, stop))


def _train(comm: Communicator, argv: Sequence[str], stop: PreemptionGuard) -> int:
    stop.install()
    if comm.rank != SERVER:
        # It takes seconds, in which rank 0 imports the same to read the order.
        from fedapm_mpi.training import runner as job  # noqa: F401
    order = run_on_server(comm, lambda: _read_options(argv))
    if isinstance(order, int):
        return order
    # Only now, since rank 0 may have nothing to train.
    from fedapm_mpi.config.schema import Config
    from fedapm_mpi.training.runner import dry_run, train

    config = Config.from_plain(order.config)
    if order.seconds is not None:
        stop.deadline = min(stop.deadline, stop.started + order.seconds)
    if order.dry_run:
        return dry_run(comm, config)
    return train(
        comm,
        config,
        directory=order.directory,
        out=order.out,
        resume=order.resume,
        progress=order.progress,
        stop=stop,
        break_lock=order.break_lock,
        accept_changed_parts=order.accept_changed_parts,
    )


def _read_options(argv: Sequence[str]) -> TrainOptions | int:
    from fedapm_mpi.config.loader import load
    from fedapm_mpi.config.yaml_io import dump, read_mapping
    from fedapm_mpi.training import trust

    parser = Parser(prog="fedapm train", description=__doc__)
    add_arguments(parser)
    args = parser.parse_args(list(argv))
    path: Path | str | None
    path, overrides = split_words([args.config, *args.overrides])
    directory, resume = _directory(args)
    known = directory / "config.yaml" if resume and directory else None
    if path is None:
        if known is None or not known.exists():
            msg = "name a CONFIG file, or a run to go on with by --resume RUN"
            raise ConfigError(msg)
        path = known
        trust.require(known.parent, read_mapping(known), trusted=args.trust)
    notes: list[str] = []
    config = load(path, overrides, notes.append)
    if args.print_config:
        print(dump(config.plain()), end="")  # noqa: T201
        return 0
    for text in notes:
        log.info("%s", text)
    if resume and directory is None:
        directory = _newest_run(args.out, config.plain())
    return TrainOptions(
        config=config.plain(),
        directory=directory,
        out=args.out,
        resume=resume,
        dry_run=args.dry_run,
        progress=args.progress,
        accept_changed_parts=args.accept_changed_parts,
        seconds=None if args.walltime is None else parse_duration(args.walltime),
        break_lock=args.break_lock,
    )


def _directory(args: argparse.Namespace) -> tuple[Path | None, bool]:
    """Return the run directory that was named, if any, and whether to resume."""
    if args.resume is None:
        return args.run_dir, False
    if args.resume is True:
        return args.run_dir, True
    named = Path(args.resume)
    if args.run_dir is not None and args.run_dir != named:
        msg = f"--resume {named} and --run-dir {args.run_dir} name two runs"
        raise ConfigError(msg)
    try:
        there = named.is_dir()
    except OSError:  # such as a name that is too long
        there = False
    if not there:
        msg = f"--resume: {truncate(str(named), 200)} is not a run directory"
        raise ConfigError(msg)
    return named, True


def _newest_run(out: Path, config: dict[str, Any]) -> Path:
    """Return the newest run in `out` that can go on under this configuration."""
    from fedapm_mpi.config.yaml_io import read
    from fedapm_mpi.training.identity import identity_of, identity_then

    wanted = identity_of(config)
    found = []
    for path in out.glob("*/config.yaml"):
        try:
            values = read(path)
            if identity_then(values, config) == wanted:
                found.append(path.parent)
        except Exception:  # whatever is in there: it is no run of this experiment
            continue
    if not found:
        msg = (
            f"--resume: no run of this experiment in {out}; name it by --resume RUN, "
            "or leave --resume out to start one"
        )
        raise ConfigError(msg)
    return max(found, key=lambda path: (path / "config.yaml").stat().st_mtime_ns)
