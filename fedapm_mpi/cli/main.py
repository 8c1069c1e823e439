"""The command ``fedapm``; each of its commands is a module of `commands`."""

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from fedapm_mpi import __version__
from fedapm_mpi.cli import docstrings as source
from fedapm_mpi.cli.arguments import Parser, asks_for_help
from fedapm_mpi.comm import interrupts
from fedapm_mpi.comm.launch_env import launched_rank, launched_size
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.plugins.errors import DEBUG, to_fedapm_error
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.early_interrupt import INTERRUPTED
from fedapm_mpi.utils.terminal import Stream, print_error, protected
from fedapm_mpi.utils.text import format_value

COMMANDS = (
    "train",
    "launch",
    "slurm",
    "sweep",
    "prepare",
    "download",
    "extract",
    "inspect",
    "verify",
    "doctor",
    "digest",
    "report",
    "convergence",
    "scale",
    "algorithms",
)
"""The commands, each a module with HELP, add_arguments(parser) and run(args)."""


OLD_COMMANDS = {"rate": "convergence"}
"""Old names of commands, which are read but not in the help, and the new ones."""

MAX_NAME_LENGTH = 60
"""Characters of an unknown command that are compared with those that are known."""

PARALLEL_COMMANDS = ("train", "extract", "prepare", "doctor")
"""Those that run on many ranks, by their main(argv)."""

PRINTING_COMMANDS = (
    "inspect",
    "verify",
    "digest",
    "report",
    "convergence",
    "algorithms",
)
"""Those whose result is what they print; others leave it in files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 2 usage or configuration, 3 data, 75 stopped early and resumable, 70 failed,
    130 interrupted. ``--debug``, anywhere, adds tracebacks to errors, on all ranks that
    it starts too.
    """
    with ExitStack() as stack:
        if argv is None:
            stack.enter_context(interrupts.interruptible())
        output = stack.enter_context(protected())
        arguments = list(sys.argv[1:] if argv is None else argv)
        if "--debug" in arguments:
            arguments = [word for word in arguments if word != "--debug"]
            os.environ[DEBUG] = "1"
        try:
            return _run(_by_new_name(arguments), output)
        except Exception as error:
            from fedapm_mpi.comm.runtime import print_error

            told = to_fedapm_error(error)
            print_error(told)
            return told.exit_code
        except KeyboardInterrupt as error:
            interrupts.report_interrupt(str(error))
            return INTERRUPTED


def _by_new_name(arguments: list[str]) -> list[str]:
    """Return a command line in which the command has its new name."""
    old = arguments[0] if arguments else ""
    if old not in OLD_COMMANDS:
        return arguments
    if launched_rank() == 0:
        print_error(f"fedapm: note: {old} is now {OLD_COMMANDS[old]}")
    return [OLD_COMMANDS[old], *arguments[1:]]


def _run(arguments: list[str], output: Stream) -> int:
    if arguments[:1] and arguments[0] in _on_ranks():
        if _tells_only(arguments):
            return 0
        command = importlib.import_module(f".{arguments[0]}", __package__)
        code: int = command.main(arguments[1:])
    else:
        code = _run_alone(arguments)
    output.flush()
    if output.error is None or not _prints_its_result(arguments):
        return code
    if not isinstance(output.error, BrokenPipeError):  # as of head, who has enough
        reason = getattr(output.error, "strerror", None) or output.error
        msg = f"cannot write to standard output: {reason}"
        raise FedAPMError(msg)
    return code or FedAPMError.exit_code


def _prints_its_result(arguments: list[str]) -> bool:
    """Return whether a command is for nothing if its output cannot be written."""
    name, *rest = arguments or [""]
    if name == "train":
        return not {"--print-config", "--dry-run"}.isdisjoint(rest)
    return name in PRINTING_COMMANDS or (name == "slurm" and rest[:1] == ["render"])


def _on_ranks() -> tuple[str, ...]:
    """Return the commands to start on ranks; prepare needs no MPI unless launched."""
    alone = launched_size()[0] == 1
    return tuple(name for name in PARALLEL_COMMANDS if name != "prepare" or not alone)


def _tells_only(arguments: list[str]) -> bool:
    """Check a command line before anything large is loaded; tell help if it asks.

    Under a launcher rank 0 reads it, once ranks can agree on what is wrong with it.
    """
    several = launched_size()[0] > 1
    wanted = asks_for_help(arguments)
    if several and not wanted:
        return False
    if launched_rank() == 0:
        try:
            parser(arguments[:1]).parse_args(arguments)
        except SystemExit:
            sys.stdout.flush()
    return wanted


def _run_alone(arguments: list[str]) -> int:
    size, variable = launched_size()
    if size > 1 and asks_for_help(arguments):
        if launched_rank() != 0:
            return 0
    elif size > 1:
        if launched_rank() != 0:
            return ConfigError.exit_code
        msg = (
            f"only {', '.join(PARALLEL_COMMANDS)} run on several ranks, but {variable} "
            f"is {size}; run this command without a launcher"
        )
        raise ConfigError(msg)
    try:
        args = parser(arguments[:1]).parse_args(arguments)
    except SystemExit as leaving:  # after help, or the version
        return int(leaving.code or 0)
    code: int = args.body(args)
    return code


def parser(wanted: Sequence[str] = ()) -> Parser:
    """Return the parser; only the `wanted` command's own options are loaded.

    With none wanted there are the commands' names and what they do, which is what help
    tells; no command's module is imported for that.
    """
    top = Parser(
        prog="fedapm",
        description="Personalised federated learning by ADMM over MPI.",
        epilog="Exit codes: 0 done, 2 usage or configuration, 3 data, 75 stopped early "
        "and resumable, 70 failed, 130 interrupted. --debug, in any command, adds "
        "tracebacks to errors.",
    )
    top.add_argument("--version", action="version", version=f"fedapm {__version__}")
    if not wanted:
        msg = f"name a COMMAND (known: {', '.join(COMMANDS)}); see fedapm --help"
        raise ConfigError(msg)
    name = wanted[0]
    if name not in COMMANDS and not name.startswith("-"):
        hint = did_you_mean(name[:MAX_NAME_LENGTH], list(COMMANDS))
        msg = (
            f"unknown command {format_value(name)}{hint} (known: {', '.join(COMMANDS)})"
        )
        raise ConfigError(msg)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    if name in COMMANDS:
        module = importlib.import_module(f".{name}", __package__)
        command = commands.add_parser(
            name, help=module.HELP, description=module.__doc__
        )
        module.add_arguments(command)
        command.set_defaults(body=module.run)
        return top
    for name in COMMANDS:
        told = source.constant(f"cli.{name}", "HELP")
        commands.add_parser(name, help=told, add_help=False)
    return top
