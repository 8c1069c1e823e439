"""The command line ``fedapm``; each command is a module of this package."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from fedapm_mpi import __version__
from fedapm_mpi.cli import docstrings as source
from fedapm_mpi.cli.arguments import Parser, asks_for_help
from fedapm_mpi.cli.command import (
    COMMANDS,
    Command,
    load_command,
    parallel_commands,
)
from fedapm_mpi.comm import interrupts
from fedapm_mpi.comm.launch_env import launched_rank, launched_size
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.plugins.errors import DEBUG, to_fedapm_error
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.early_interrupt import INTERRUPTED
from fedapm_mpi.utils.terminal import Stream, print_error, protected
from fedapm_mpi.utils.text import format_value

OLD_COMMANDS = {"rate": "convergence"}
"""Old names of commands, which are read but not in the help, and the new ones."""

MAX_NAME_LENGTH = 60
"""Characters of an unknown command that are compared with those that are known."""


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

            found = to_fedapm_error(error)
            print_error(found)
            return found.exit_code
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
    known = bool(arguments) and arguments[0] in COMMANDS
    command = load_command(arguments[0]) if known else None
    if command is not None and command.parallel:
        code = _run_parallel(command, arguments)
    else:
        code = _run_alone(arguments)
    output.flush()
    needed = command is not None and command.must_print(arguments[1:])
    if output.error is None or not needed:
        return code
    if not isinstance(output.error, BrokenPipeError):  # as of head, which has enough
        reason = getattr(output.error, "strerror", None) or output.error
        msg = f"cannot write to standard output: {reason}"
        raise FedAPMError(msg)
    return code or FedAPMError.exit_code


def _run_parallel(command: Command[Any], arguments: list[str]) -> int:
    """Run a command on every rank; on one process, check its arguments first.

    Under a launcher rank 0 parses them once ranks can agree on an error. Alone, they
    are parsed before anything large is imported.
    """

    def parse() -> argparse.Namespace:
        return parser(arguments[:1]).parse_args(arguments)

    if asks_for_help(arguments):
        if launched_rank() == 0:
            with suppress(SystemExit):
                parse()
            sys.stdout.flush()
        return 0
    if launched_size()[0] > 1:
        return command.start(arguments[1:], parse)
    parsed = parse()
    return command.start(arguments[1:], lambda: parsed)


def _run_alone(arguments: list[str]) -> int:
    size, variable = launched_size()
    if size > 1 and asks_for_help(arguments):
        if launched_rank() != 0:
            return 0
    elif size > 1:
        if launched_rank() != 0:
            return ConfigError.exit_code
        msg = (
            f"only {', '.join(parallel_commands())} run on several ranks, but "
            f"{variable} is {size}; run this command without a launcher"
        )
        raise ConfigError(msg)
    try:
        args = parser(arguments[:1]).parse_args(arguments)
    except SystemExit as leaving:  # after help, or the version
        return int(leaving.code or 0)
    return load_command(arguments[0]).start(arguments[1:], lambda: args)


def parser(wanted: Sequence[str] = ()) -> Parser:
    """Return the parser, with the options of one command only.

    Parameters
    ----------
    wanted
        The command's name. For any other word the parser has all commands with their
        lines of help, which are read without importing a command's module.

    Raises
    ------
    ConfigError
        If no command is wanted, or there is none of that name.
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
        description = source.docstring(f"cli.{name}").replace("``", "")
        line = source.constant(f"cli.{name}", "HELP")
        below = commands.add_parser(name, help=line, description=description)
        load_command(name).add_arguments(below)
        return top
    for name in COMMANDS:
        line = source.constant(f"cli.{name}", "HELP")
        commands.add_parser(name, help=line, add_help=False)
    return top
