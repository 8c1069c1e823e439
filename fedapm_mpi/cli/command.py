"""The base class of commands, and their names."""

import argparse
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.comm import SERVER, Communicator, Serial
from fedapm_mpi.errors import FedAPMError
from fedapm_mpi.utils import kernels

Options = TypeVar("Options")

COMMANDS = (
    "train",
    "launch",
    "slurm",
    "sweep",
    "split",
    "tune",
    "prepare",
    "download",
    "extract",
    "inspect",
    "verify",
    "doctor",
    "digest",
    "evaluate",
    "predict",
    "report",
    "convergence",
    "scale",
    "algorithms",
)
"""The commands. Each is a module of that name, with a docstring that describes it, a
line of help, ``HELP``, and a `Command`, ``COMMAND``."""


class Command(ABC, Generic[Options]):
    """A command of ``fedapm``.

    Rank 0 parses the command line and reads what it refers to (`read`); every rank
    then runs the command with the result (`run`).
    """

    parallel: ClassVar[bool] = False
    """Whether it runs on several ranks; one that does not is refused there."""

    prints_result: ClassVar[bool] = True
    """Whether what it prints is its result, so that it fails if that is not written."""

    @abstractmethod
    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""

    def kernels(self, args: argparse.Namespace) -> str:
        """Return the kernels that are asked for; before NumPy and torch are loaded."""
        return kernels.NATIVE

    @abstractmethod
    def read(self, args: argparse.Namespace) -> Options | None:
        """Return the options, on rank 0; `None` if nothing is left to do.

        Raises
        ------
        FedAPMError
            If the command line, or a file that it names, is not valid.
        """

    @abstractmethod
    def run(self, comm: Communicator, options: Options) -> int:
        """Run the command and return the exit code; a collective call."""

    def must_print(self, words: Sequence[str]) -> bool:
        """Return whether the command fails if its output cannot be written.

        Parameters
        ----------
        words
            The command line behind the command's name.
        """
        return self.prints_result

    def start(
        self, words: Sequence[str], parse: Callable[[], argparse.Namespace]
    ) -> int:
        """Run the command on the ranks that a launcher started, or on this process.

        Parameters
        ----------
        words
            The command line behind the command's name.
        parse
            Returns it parsed; called on rank 0 only.

        Returns
        -------
        int
            The exit code.
        """
        if not self.parallel:
            args = parse()
            kernels.use(self.kernels(args))
            return self._finish(Serial(), self.read(args))
        from fedapm_mpi.comm.runtime import on_ranks

        return on_ranks(lambda comm: self.run_parsed(comm, parse))

    def run_parsed(
        self, comm: Communicator, parse: Callable[[], argparse.Namespace]
    ) -> int:
        """Read on rank 0, then run on every rank; a collective call.

        Kernels are read first, since every rank needs them before it loads a library.
        """
        from fedapm_mpi.comm.runtime import run_on_server

        parsed: list[argparse.Namespace] = []

        def parse_first() -> str:
            parsed.append(parse())
            return self.kernels(parsed[0])

        wanted = run_on_server(comm, parse_first)
        if isinstance(wanted, int):  # help has been printed
            return wanted
        _use_on_ranks(comm, wanted)
        if comm.rank != SERVER:
            self.preload()
        options: Any = run_on_server(comm, lambda: self.read(parsed[0]))
        return self._finish(comm, options)

    def preload(self) -> None:
        """Import, on a rank other than 0, what `run` needs, while rank 0 reads."""

    def _finish(self, comm: Communicator, options: Options | None) -> int:
        return 0 if options is None else self.run(comm, options)


def _use_on_ranks(comm: Communicator, wanted: str) -> None:
    """Use the kernels that are wanted; a collective call."""
    error: FedAPMError | None = None
    try:
        kernels.use(wanted)
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)


class LocalCommand(Command[argparse.Namespace]):
    """A command on one process, whose options are its arguments."""

    def read(self, args: argparse.Namespace) -> argparse.Namespace:
        """Return the arguments."""
        return args

    def run(self, comm: Communicator, options: argparse.Namespace) -> int:
        """Run the command."""
        return self.execute(options)

    @abstractmethod
    def execute(self, args: argparse.Namespace) -> int:
        """Run the command and return the exit code."""


def load_command(name: str) -> Command[Any]:
    """Return a command by its name."""
    module = importlib.import_module(f"fedapm_mpi.cli.{name}")
    command: Command[Any] = module.COMMAND
    return command


def parallel_commands() -> list[str]:
    """Return the names of the commands that run on several ranks."""
    return [name for name in COMMANDS if load_command(name).parallel]
