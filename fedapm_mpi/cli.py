"""The command ``fedapm``; each of its commands is a module of `commands`."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from . import __version__
from .comm.launcher import launched_rank, launched_size
from .comm.start import complain
from .errors import ConfigError, FedAPMError
from .faults import DEBUG, classify
from .registry import did_you_mean

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
    "rate",
    "scale",
    "algorithms",
)
"""The commands, each a module with HELP, add_arguments(parser) and run(args)."""


PARALLEL = ("train", "extract", "prepare", "doctor")
"""Those that run on many ranks, by their main(argv)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 2 usage or configuration, 3 data, 75 stopped early and resumable, 70 failed.
    ``--debug``, anywhere, adds tracebacks to errors, on all ranks that it starts too.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in arguments:
        arguments = [word for word in arguments if word != "--debug"]
        os.environ[DEBUG] = "1"
    if arguments[:1] and arguments[0] in _on_ranks():
        command = importlib.import_module(f".commands.{arguments[0]}", __package__)
        exit_code: int = command.main(arguments[1:])
        return exit_code
    try:
        code = _run_alone(arguments)
        sys.stdout.flush()
    except FedAPMError as error:
        complain(error)
        return error.exit_code
    except BrokenPipeError:  # say, piped into head: nobody wants the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FedAPMError.exit_code
    except (Exception, KeyboardInterrupt) as error:
        told = classify(error)
        complain(told)
        return told.exit_code
    return code


def _on_ranks() -> tuple[str, ...]:
    """Return the commands to start on ranks; prepare needs no MPI unless launched."""
    alone = launched_size()[0] == 1
    return tuple(name for name in PARALLEL if name != "prepare" or not alone)


def _run_alone(arguments: list[str]) -> int:
    size, variable = launched_size()
    if size > 1:
        if launched_rank() != 0:
            return ConfigError.exit_code
        msg = (
            f"only {', '.join(PARALLEL)} run on several ranks, but {variable} is "
            f"{size}; run this command without a launcher"
        )
        raise ConfigError(msg)
    args = parser(arguments[:1]).parse_args(arguments)
    code: int = args.body(args)
    return code


def parser(wanted: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser; only the `wanted` commands' own options are loaded.

    With none wanted, or one that is not a command, all are, so that help and errors can
    tell of them.
    """
    top = argparse.ArgumentParser(
        prog="fedapm",
        description="Personalised federated learning by ADMM over MPI.",
        epilog="Exit codes: 0 done, 2 usage or configuration, 3 data, 75 stopped early "
        "and resumable, 70 failed, 130 interrupted. --debug, in any command, adds "
        "tracebacks to errors.",
    )
    top.add_argument("--version", action="version", version=f"fedapm {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for word in wanted:
        if word not in COMMANDS and not word.startswith("-"):
            hint = did_you_mean(word, list(COMMANDS))
            msg = f"unknown command {word!r}{hint} (known: {', '.join(COMMANDS)})"
            raise ConfigError(msg)
    for name in COMMANDS:
        if wanted and wanted[0] in COMMANDS and name != wanted[0]:
            continue
        module = importlib.import_module(f".commands.{name}", __package__)
        command = commands.add_parser(
            name, help=module.HELP, description=module.__doc__
        )
        module.add_arguments(command)
        command.set_defaults(body=module.run)
    return top
