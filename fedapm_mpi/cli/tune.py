"""Search for a configuration on validation parts, under one budget for every trial.

The space follows from the method's options and the model; --space narrows, widens or
fixes it. Test parts are not read. The same command continues a search that was stopped.
"""

import argparse
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from fedapm_mpi.cli.arguments import (
    Parser,
    add_experiment,
    check_folder,
    kernels_of_experiment,
    split_words,
)
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.errors import EXIT_RESUMABLE, ConfigError
from fedapm_mpi.training.preemption import PreemptionGuard, stop_signals
from fedapm_mpi.utils.log import get_logger

if TYPE_CHECKING:
    from fedapm_mpi.studies.tune.record import Trial
    from fedapm_mpi.studies.tune.study import Request, Study
    from fedapm_mpi.studies.tune.trials import Ended

log = get_logger(__name__)

HELP = "search for a configuration on validation parts"

AGAIN = "stopped; the same command continues it"


class TuneCommand(LocalCommand):
    """Search for a configuration."""

    prints_result = False

    def __init__(self) -> None:
        self._words: list[str] = []

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        from fedapm_mpi.cli.launch import add_placing

        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        add_experiment(parser)
        parser.add_argument(
            "--trials", type=int, default=24, metavar="N",
            help="configurations to try (default: 24)",
        )  # fmt: skip
        parser.add_argument(
            "--out", type=Path, metavar="DIR",
            help="folder of the search (default: runs/ and the name of the file)",
        )  # fmt: skip
        parser.add_argument(
            "--space", type=Path, metavar="FILE",
            help="YAML file that narrows, widens or fixes the space, key by key",
        )  # fmt: skip
        parser.add_argument(
            "--passes", type=float, metavar="P",
            help="passes over the training data of a trial (default: those of CONFIG)",
        )  # fmt: skip
        parser.add_argument(
            "--width", type=int, default=8, metavar="W",
            help="trials that are chosen together (default: 8)",
        )  # fmt: skip
        parser.add_argument(
            "--rungs", default="1/4,1/2,1", metavar="SHARES",
            help="shares of the budget at which trials are compared; 1 trains all to "
            "the end (default: 1/4,1/2,1)",
        )  # fmt: skip
        parser.add_argument(
            "--keep", default="1/2", metavar="SHARE",
            help="share of the trials at a rung that are continued (default: 1/2)",
        )  # fmt: skip
        parser.add_argument(
            "--finalists", type=int, default=3, metavar="K",
            help="best trials that are repeated with further seeds before one is "
            "chosen; 0 repeats none (default: 3)",
        )  # fmt: skip
        parser.add_argument(
            "--repeats", type=int, default=2, metavar="S",
            help="further seeds of each (default: 2)",
        )  # fmt: skip
        parser.add_argument(
            "--metric", metavar="NAME",
            help="what is compared, a mean over clients, or NAME_worst_decile "
            "(default: the task's most important one)",
        )  # fmt: skip
        parser.add_argument(
            "--seed", type=int, default=0, metavar="S",
            help="seed of the search; that of the runs is CONFIG's (default: 0)",
        )  # fmt: skip
        parser.add_argument(
            "--print-space", action="store_true", help="print the space, and stop"
        )
        add_placing(parser)
        _add_slurm(parser)

    def start(
        self, words: Sequence[str], parse: Callable[[], argparse.Namespace]
    ) -> int:
        """Run the command; a job that continues it is given the same words."""
        self._words = list(words)
        return super().start(words, parse)

    def must_print(self, words: Sequence[str]) -> bool:
        """Return whether the output is all that is asked for."""
        return "--print-space" in words

    def kernels(self, args: argparse.Namespace) -> str:
        """Return those of the configuration; trials may be trained in this process."""
        return kernels_of_experiment(args)

    def execute(self, args: argparse.Namespace) -> int:
        """Search; return the exit code."""
        from fedapm_mpi.studies.tune.study import Study

        request = request_of(args)
        if args.print_space:
            print_space(request)
            return 0
        if args.slurm:
            return _submit(args, Study(request), self._words)
        _refuse_slurm_options(args)
        study = Study(request)
        with stop_signals() as stop:
            code = _search(study, _runner(args, study, stop), stop)
        return code or report(study)


COMMAND = TuneCommand()


def _add_slurm(parser: Parser) -> None:
    """Declare how trials are submitted as job arrays."""
    from fedapm_mpi.cli.slurm import add_resources

    parser.add_argument(
        "--slurm",
        action="store_true",
        help="submit the trials of each rung as a job array, and a job behind it that "
        "continues; the following options are for it",
    )
    add_resources(parser)
    parser.add_argument("--after-array", action="store_true", help=argparse.SUPPRESS)


def _refuse_slurm_options(args: argparse.Namespace) -> None:
    """Refuse what has an effect with --slurm only."""
    names = ("nodes", "ntasks_per_node", "ntasks", "max_concurrent", "site", "job_name")
    for name in names:
        if getattr(args, name) is not None:
            msg = f"--{name.replace('_', '-')} is for job arrays: add --slurm"
            raise ConfigError(msg)


def _submit(args: argparse.Namespace, study: "Study", words: list[str]) -> int:
    """Read the results there are, submit what is to be trained next; return the code.

    Once the study is over its results are written.
    """
    from fedapm_mpi.cli.slurm import job_name, shape_of
    from fedapm_mpi.cluster.site import read_site
    from fedapm_mpi.cluster.slurm.submit import check_site
    from fedapm_mpi.studies.tune.array_jobs import ArrayOptions, submit_next
    from fedapm_mpi.utils.terminal import echo

    if args.ranks is not None or args.ranks_per_node is not None:
        msg = "-n is for ranks of this machine; with --slurm give --ntasks-per-node"
        raise ConfigError(msg)
    site = read_site(args.site)
    check_site(site)
    again = [word for word in words if word != "--after-array"]
    options = ArrayOptions(
        site=site,
        shape=shape_of(args),
        name=job_name(args, study.out.name),
        limit=args.max_concurrent,
        words=["tune", *again, "--after-array"],
    )
    submitted = submit_next(study, options, after_array=args.after_array)
    if submitted is None:
        return report(study)
    array, step, count = submitted
    echo(f"job {array}: {count} trials, {options.shape.ranks} ranks each")
    echo(f"job {step}: reads their results, and continues")
    return 0


def request_of(args: argparse.Namespace) -> "Request":
    """Return what the command line asks for.

    Raises
    ------
    ConfigError
        If something of it is not valid.
    """
    from fedapm_mpi.config.loader import load, read_yaml
    from fedapm_mpi.studies.tune.study import Request

    path, overrides = split_words([args.config, *args.overrides])
    if path is None:
        msg = "name the configuration to begin with: fedapm tune CONFIG"
        raise ConfigError(msg)
    check_folder("--out", args.out)
    if args.seed < 0:
        msg = f"--seed must be at least 0, not {args.seed}"
        raise ConfigError(msg)
    if args.passes is not None and not 0 < args.passes < float("inf"):
        msg = f"--passes must be above 0, not {args.passes:g}"
        raise ConfigError(msg)
    config = load(path, overrides, lambda text: log.info("%s", text))
    return Request(
        config=config,
        space={} if args.space is None else read_yaml(args.space),
        trials=args.trials,
        width=args.width,
        rungs=tuple(_share(word, "--rungs") for word in args.rungs.split(",")),
        keep=_share(args.keep, "--keep"),
        seed=args.seed,
        finalists=args.finalists,
        repeats=args.repeats,
        out=args.out or Path("runs", Path(path).stem),
        passes=args.passes,
        metric=args.metric,
    )


def _share(word: str, option: str) -> Fraction:
    try:
        return Fraction(word.strip())
    except (ValueError, ZeroDivisionError):
        msg = f"{option}: {word!r} is no share; write such as 1/4 or 0.25"
        raise ConfigError(msg) from None


def print_space(request: "Request") -> None:
    """Print the space as a YAML file has it."""
    from fedapm_mpi.config.yaml_io import dump
    from fedapm_mpi.studies.tune.default_space import build_space
    from fedapm_mpi.studies.tune.space import written
    from fedapm_mpi.studies.tune.study import validated_manifest
    from fedapm_mpi.utils.terminal import echo

    manifest = validated_manifest(request.config)
    space = build_space(request.config, manifest, request.space)
    echo(dump(written(space)).rstrip("\n"))


def _search(
    study: "Study", train: Callable[["Trial", int], "Ended"], stop: PreemptionGuard
) -> int:
    """Train all trials; return the exit code, 0 once the study is over."""
    from fedapm_mpi.utils.terminal import echo

    while todo := study.advance():
        for trial, rounds in todo:
            if stop.should_stop():
                echo(AGAIN)
                return EXIT_RESUMABLE
            ended = train(trial, rounds)
            if not study.settle(trial, rounds, ended):
                return _not_settled(trial, ended)
            echo(_progress(study, trial, rounds))
            if ended.stopped:  # a signal came too late to stop that run
                echo(AGAIN)
                return EXIT_RESUMABLE
    return 0


def _not_settled(trial: "Trial", ended: "Ended") -> int:
    """Return the exit code of a search that a trial's run ends."""
    from fedapm_mpi.utils.terminal import echo

    if ended.code == EXIT_RESUMABLE or ended.stopped:
        echo(AGAIN)
        return ended.code or EXIT_RESUMABLE
    if ended.error is not None:
        raise ended.error
    log.warning(
        "trial %s ended with exit code %d, which is no fault of its configuration; "
        "correct the cause, then continue by the same command",
        trial.name,
        ended.code,
    )
    return ended.code or 70


def _progress(study: "Study", trial: "Trial", rounds: int) -> str:
    where = f"trial {trial.number} of {study.plan.trials}"
    if trial.repeats is not None:
        where = f"trial {trial.repeats} again, with another seed"
    if trial.failure is not None:
        reason = " ".join(trial.failure.message.split())
        return f"{where}: failed: {reason}"
    value = trial.results[-1].value
    return (
        f"{where}: {study.metric} {value:.4f} after {rounds} of {trial.rounds} rounds"
    )


def _runner(
    args: argparse.Namespace, study: "Study", stop: PreemptionGuard
) -> Callable[["Trial", int], "Ended"]:
    """Return what trains a trial to a rung: this process, or ranks that it starts."""
    from fedapm_mpi.cli.launch import job_of
    from fedapm_mpi.studies.tune.trials import train_here

    job = job_of(args)
    if job.ranks == 1 and args.launcher == "auto":
        return lambda trial, rounds: train_here(
            study.rung_values(trial, rounds), study.run_of(trial), stop
        )
    from fedapm_mpi.cluster.launch import command
    from fedapm_mpi.cluster.output_relay import relay_outputs

    relay_outputs()

    def train(trial: "Trial", rounds: int) -> "Ended":
        words = ["train", str(study.config_of(trial)), "--progress", "none"]
        words += ["--run-dir", str(study.run_of(trial)), "--resume"]
        return launched(command(job, words, launcher=args.launcher))

    return train


def launched(words: Sequence[str]) -> "Ended":
    """Start ranks, wait for them, and return how they have ended."""
    from fedapm_mpi.cluster.supervisor import LauncherExit, report_failure, run_launcher
    from fedapm_mpi.studies.tune.trials import timed

    found: list[LauncherExit] = []

    def start() -> int:
        found.append(run_launcher(words))
        return found[0].code

    ended = timed(start)
    report_failure(found[0])
    return ended._replace(stopped=bool(found[0].signals))


def report(study: "Study") -> int:
    """Write the results of a study that is over, and print what was chosen."""
    from fedapm_mpi.errors import FedAPMError
    from fedapm_mpi.studies.tune.report import write_report, write_table
    from fedapm_mpi.utils.terminal import echo

    if study.best() is None:
        write_table(study)
        msg = (
            "no trial was trained to the end without failing; "
            f"{study.out}/trials.jsonl has the reasons"
        )
        raise FedAPMError(msg)
    closing, notes = write_report(study)
    for note in notes:
        log.info("%s", note)
    echo(closing)
    return 0
