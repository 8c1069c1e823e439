"""List the splits that a model offers, and which of them the clients' data call for."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedapm_mpi.cli.arguments import (
    Parser,
    add_experiment,
    check_folder,
    kernels_of_experiment,
    split_words,
)
from fedapm_mpi.cli.command import Command
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.utils.log import get_logger

if TYPE_CHECKING:
    from fedapm_mpi.config.schema import Config
    from fedapm_mpi.training.split_report import Cost
    from fedapm_mpi.training.split_search import SplitChoice, TestedCandidate

log = get_logger(__name__)

HELP = "test which parameters clients should share, on one process or under mpiexec"

AUTO = "split=auto"


@dataclass(frozen=True)
class SplitOptions:
    """A command line as rank 0 reads it, for all ranks."""

    config: dict[str, Any]
    """With ``split.auto``."""

    only_list: bool = False
    out: Path | None = None
    plot: Path | None = None


class SplitCommand(Command[SplitOptions]):
    """Test the splits that a model offers."""

    parallel = True

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        add_experiment(parser)
        parser.add_argument(
            "--list", action="store_true", help="list the candidates without training"
        )
        parser.add_argument(
            "--candidates",
            metavar="A,B",
            help="test only these, by their names in the list",
        )
        parser.add_argument(
            "--out",
            type=Path,
            metavar="DIR",
            help="write candidates.csv (a row for each candidate and layer) and "
            "split_choice.json to DIR",
        )
        parser.add_argument(
            "--plot",
            type=Path,
            metavar="FILE",
            help="draw LM by layer with the smallest candidate personal",
        )

    def preload(self) -> None:
        """Import what trains; it takes seconds, as it does on rank 0 meanwhile."""
        from fedapm_mpi.training import split_search  # noqa: F401

    def kernels(self, args: argparse.Namespace) -> str:
        """Return those of the configuration."""
        return kernels_of_experiment(args)

    def read(self, args: argparse.Namespace) -> SplitOptions | None:
        """Return the configuration and what to do with it."""
        check_folder("--out", args.out)
        _check_plot(args.plot)
        for flag, value in (("--out", args.out), ("--plot", args.plot)):
            if args.list and value is not None:
                msg = f"{flag}: --list tests nothing, so there is nothing to write"
                raise ConfigError(msg)
        path, overrides = split_words([args.config, *args.overrides])
        if path is None:
            msg = "name a CONFIG file"
            raise ConfigError(msg)
        only = None if args.candidates is None else args.candidates.split(",")
        config = with_auto_split(path, overrides, only)
        rule = config["split"]["auto"]["rule"]
        if args.plot is not None and rule != "multiplier":
            msg = f"--plot: draws LM, which the rule {rule} does not test"
            raise ConfigError(msg)
        return SplitOptions(config, args.list, args.out, args.plot)

    def run(self, comm: Communicator, options: SplitOptions) -> int:
        """List or test the candidates; return the exit code."""
        # Only here, since --help needs none of it.
        from fedapm_mpi.config.schema import Config
        from fedapm_mpi.training import split_report
        from fedapm_mpi.training.preemption import PreemptionGuard
        from fedapm_mpi.training.split_search import SplitSearch

        search = SplitSearch(comm, Config.from_plain(options.config))
        costs = split_report.split_costs(search.first, search.candidates)
        if options.only_list:
            if comm.rank == SERVER:
                split_report.print_candidates(search.candidates, costs)
            return 0
        choice = search.run(PreemptionGuard(), _tell(comm), everything=True)
        assert choice is not None  # nothing asks it to stop
        error: FedAPMError | None = None
        if comm.rank == SERVER:
            if choice.tested:
                split_report.print_choice(choice, costs)
            else:
                split_report.print_scores(choice, search.options.rule)
            try:
                _write(options, search.config, choice, costs)
            except FedAPMError as caught:
                error = caught
        comm.raise_collectively(error)
        return 0


COMMAND = SplitCommand()


def with_auto_split(
    path: str, overrides: list[str], candidates: list[str] | None = None
) -> dict[str, Any]:
    """Return the plain configuration of a search.

    The file's own split counts only if it is ``auto``, whose options then hold, but for
    the candidates that are given here.

    Raises
    ------
    ConfigError
        If the configuration is not valid, or its algorithm has no split.
    """
    from fedapm_mpi.config.loader import load, read_yaml

    def notify(text: str) -> None:
        log.info("%s", text)

    names = [name.strip() for name in candidates or () if name.strip()]
    only = [] if candidates is None else [f"split.auto.candidates={json.dumps(names)}"]
    keys = [*read_yaml(Path(path)), *(word.partition("=")[0] for word in overrides)]
    if not any(key == "split" or key.startswith("split.") for key in keys):
        try:
            config = load(path, [*overrides, AUTO, *only], notify)
        except ConfigError:
            config = load(path, overrides, notify)  # what else is wrong comes first
    else:
        config = load(path, overrides, notify)
        if config.split is not None and config.split.auto is not None and only:
            config = load(path, [*overrides, *only])
    if config.split is None:
        name = config.algorithm["name"]
        msg = f"algorithm {name!r} has no split, so there is nothing to choose"
        raise ConfigError(msg)
    if config.split.auto is None:
        config = load(path, [*overrides, AUTO, *only])
    return config.plain()


def _check_plot(path: Path | None) -> None:
    """Raise `ConfigError` if a plot cannot be written there, before anything trains."""
    if path is None:
        return
    from fedapm_mpi.analysis.plots import figure_kind, pyplot

    figure_kind(path)
    pyplot()
    if not path.parent.is_dir():
        msg = f"--plot: there is no folder {path.parent}; create it first"
        raise ConfigError(msg)


def _tell(comm: Communicator) -> Callable[["TestedCandidate"], None]:
    """Return what reports each tested candidate, on the server."""

    def tell(one: "TestedCandidate") -> None:
        if comm.rank != SERVER:
            return
        layer, largest = one.worst or ("nothing", None)
        value = "" if largest is None else f", LM at most {largest:.2f} ({layer})"
        log.info("%s: %s personal%s", one.candidate.name, one.candidate.size, value)

    return tell


def _write(
    asked: SplitOptions,
    config: "Config",
    choice: "SplitChoice",
    costs: Mapping[str, "Cost"],
) -> None:
    """Write the files that were asked for."""
    from fedapm_mpi.analysis.layer_tests import draw_layers_to
    from fedapm_mpi.training.split_report import write_choice
    from fedapm_mpi.utils.terminal import echo

    if asked.out is not None:
        files = write_choice(asked.out, config, choice, costs)
        echo(f"in {asked.out}: {', '.join(path.name for path in files)}")
    if asked.plot is not None:
        first = choice.tested[0]
        values = {name: test.lm for name, test in first.tests.items()}
        draw_layers_to({f"personal: {first.candidate.name}": values}, asked.plot)
        echo(f"plotted in {asked.plot}")
