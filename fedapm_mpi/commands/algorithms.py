"""List the algorithms, each with one line, its source and its hyper-parameters."""

import argparse
import inspect
import re
import sys

HELP = "list the algorithms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line: there are no options."""


def run(args: argparse.Namespace) -> int:
    """Print the list; return the exit code."""
    from ..algorithms import algorithms

    names = algorithms.names()
    width = max(map(len, names))
    for name in names:
        algorithm = algorithms.get(name)
        line, source = described(sys.modules[algorithm.__module__].__doc__)
        print(f"{name:{width}}  {line}")  # noqa: T201
        if source:
            print(f"{'':{width}}  from: {source}")  # noqa: T201
        options = ", ".join(
            map(_option, inspect.signature(algorithm).parameters.values())
        )
        print(f"{'':{width}}  options: {options}")  # noqa: T201
    return 0


def described(docstring: str | None) -> tuple[str, str]:
    """Return the first line of an algorithm's docstring, and its reference or ""."""
    text = inspect.cleandoc(docstring or "")
    found = re.search(r"\bReferences?: (.+?)(?=\n\n|\Z)", text, re.DOTALL)
    source = re.sub(r"-\n\s*", "-", found[1]) if found else ""
    return text.partition("\n")[0], " ".join(source.split())


def _option(parameter: inspect.Parameter) -> str:
    optional = parameter.default is not inspect.Parameter.empty
    return f"[{parameter.name}]" if optional else parameter.name
