"""Train a federated experiment on one process, or on many ranks under a launcher."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedapm_mpi.cli.arguments import (
    Parser,
    add_experiment,
    check_folder,
    is_run,
    optional_value,
    split_words,
)
from fedapm_mpi.cli.command import Command
from fedapm_mpi.comm import Communicator
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.preemption import PreemptionGuard, stop_signals
from fedapm_mpi.utils.duration import parse_duration
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.text import truncate

log = get_logger(__name__)

HELP = "train an experiment, on one process or under mpiexec or srun"


@dataclass(frozen=True)
class TrainOptions:
    """A command line as rank 0 reads it, for all ranks."""

    config: dict[str, Any]
    directory: Path | None = None
    """Run directory to resume, or to make; `None` for a new one in `out`."""

    out: Path = Path("runs")
    resume: bool = False
    dry_run: bool = False
    progress: Any = "auto"
    seconds: float | None = None
    """Time that the run may take."""

    break_lock: bool = False
    accept_changed_parts: bool = False


class TrainCommand(Command[TrainOptions]):
    """Train an experiment."""

    parallel = True

    def __init__(self) -> None:
        self._stop = PreemptionGuard()

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        add_experiment(parser)
        parser.add_argument(
            "--out",
            type=Path,
            default=Path("runs"),
            metavar="DIR",
            help="folder in which the run directory is created (default: runs)",
        )
        parser.add_argument(
            "--run-dir",
            type=Path,
            metavar="DIR",
            help="the run directory itself, instead of --out",
        )
        _add_resume(parser)
        parser.add_argument(
            "--print-config",
            action="store_true",
            help="print the resolved configuration",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="check everything, print placement, bytes, memory and time, and stop",
        )
        parser.add_argument(
            "--walltime",
            metavar="TIME",
            help="time limit, written as for sbatch --time, such as 2:00:00: the run "
            "stops between two rounds, with a checkpoint and exit code 75, early "
            "enough to end in time (default: the end of the SLURM job, if any)",
        )
        parser.add_argument(
            "--progress",
            choices=("auto", "live", "lines", "none"),
            default="auto",
            help="auto: live on a terminal, one line per round elsewhere; under a "
            "launcher rank 0 has no terminal, so name live there if you want it",
        )

    def must_print(self, words: Sequence[str]) -> bool:
        """Return whether the output is all that is asked for."""
        return not {"--print-config", "--dry-run"}.isdisjoint(words)

    def start(
        self, words: Sequence[str], parse: Callable[[], argparse.Namespace]
    ) -> int:
        """Run the command on every rank, which signals can stop."""
        with stop_signals() as self._stop:
            return super().start(words, parse)

    def run_parsed(
        self, comm: Communicator, parse: Callable[[], argparse.Namespace]
    ) -> int:
        """Handle signals from now on, then read and run."""
        self._stop.install()
        return super().run_parsed(comm, parse)

    def preload(self) -> None:
        """Import what trains; it takes seconds, as it does on rank 0 meanwhile."""
        from fedapm_mpi.training import runner  # noqa: F401

    def kernels(self, args: argparse.Namespace) -> str:
        """Return those of the configuration."""
        from fedapm_mpi.config.early_keys import kernels_of

        return kernels_of(*_source(args))

    def read(self, args: argparse.Namespace) -> TrainOptions | None:
        """Return the configuration and how to run it."""
        from fedapm_mpi.config.loader import load
        from fedapm_mpi.config.yaml_io import dump, read_mapping
        from fedapm_mpi.training import trust

        path, overrides = _source(args)
        directory, resume = _directory(args)
        if path is None:
            msg = "name a CONFIG file, or a run to continue by --resume RUN"
            raise ConfigError(msg)
        if split_words([args.config, *args.overrides])[0] is None:
            run = Path(path).parent
            trust.require(run, read_mapping(Path(path)), trusted=args.trust)
        notes: list[str] = []
        config = load(path, overrides, notes.append)
        if args.print_config:
            print(dump(config.plain()), end="")  # noqa: T201
            return None
        for text in notes:
            log.info("%s", text)
        if resume and directory is None:
            directory = newest_run(args.out, config.plain())
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

    def run(self, comm: Communicator, options: TrainOptions) -> int:
        """Train, or check everything and print the plan; return the exit code."""
        # Only now, since rank 0 may have nothing to train.
        from fedapm_mpi.config.schema import Config
        from fedapm_mpi.training.runner import dry_run, train

        config, stop = Config.from_plain(options.config), self._stop
        if options.seconds is not None:
            stop.deadline = min(stop.deadline, stop.started + options.seconds)
        if options.dry_run:
            return dry_run(comm, config)
        return train(
            comm,
            config,
            directory=options.directory,
            out=options.out,
            resume=options.resume,
            progress=options.progress,
            stop=stop,
            break_lock=options.break_lock,
            accept_changed_parts=options.accept_changed_parts,
        )


COMMAND = TrainCommand()


def _add_resume(parser: Parser) -> None:
    """Declare how a run is continued."""
    resume = parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN",
        help="continue a run: RUN, or --run-dir, or else the newest run of this "
        "experiment in --out; start one if --run-dir does not exist yet; a KEY=VALUE "
        "or a YAML file after it is not taken for RUN",
    )
    optional_value(resume, is_run)
    parser.add_argument(
        "--break-lock",
        action="store_true",
        help="take over a run directory that a job on another host still seems to "
        "own; only if you know that the job is dead",
    )
    parser.add_argument(
        "--accept-changed-parts",
        action="store_true",
        help="continue a run although its custom code has changed",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import the custom code that RUN names, even if RUN was not made here",
    )


def _directory(args: argparse.Namespace) -> tuple[Path | None, bool]:
    """Return the run directory that was named, if any, and whether to resume."""
    for flag, path in (("--run-dir", args.run_dir), ("--out", args.out)):
        check_folder(flag, path)
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


def _source(args: argparse.Namespace) -> tuple[Path | str | None, list[str]]:
    """Return the configuration, if any, and what replaces values of it.

    That of the run to resume counts where no other is named.
    """
    path, overrides = split_words([args.config, *args.overrides])
    if path is not None:
        return path, overrides
    directory, resume = _directory(args)
    known = directory / "config.yaml" if resume and directory else None
    return known if known is not None and known.exists() else None, overrides


def newest_run(out: Path, config: dict[str, Any]) -> Path:
    """Return the newest run in `out` that can continue under this configuration."""
    from fedapm_mpi.config.yaml_io import read
    from fedapm_mpi.training.identity import identity_of, identity_then
    from fedapm_mpi.training.split_record import as_asked

    wanted = identity_of(config)
    found = []
    for path in out.glob("*/config.yaml"):
        try:
            values = as_asked(read(path), path.parent, config)
            if identity_then(values, config) == wanted:
                found.append(path.parent)
        except Exception:  # anything may be there that is no run of this experiment
            continue
    if not found:
        msg = (
            f"--resume: no run of this experiment in {out}; name it by --resume RUN, "
            "or leave --resume out to start one"
        )
        raise ConfigError(msg)
    return max(found, key=lambda path: (path / "config.yaml").stat().st_mtime_ns)
