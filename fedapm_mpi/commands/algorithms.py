"""List the algorithms, each with one line and its hyper-parameters."""

import argparse
import inspect
import sys

HELP = "list the algorithms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line: there are no options."""


def run(args: argparse.Namespace) -> int:
    """Print the list; return the exit code."""
    from ..algorithms import algorithms

    for name in algorithms.names():
        algorithm = algorithms.get(name)
        module = sys.modules[algorithm.__module__]
        line = (inspect.getdoc(module) or "").split("\n")[0]
        options = inspect.signature(algorithm).parameters
        print(f"{name:10} {line}")  # noqa: T201
        print(f"{'':10} options: {', '.join(options)}")  # noqa: T201
    return 0
