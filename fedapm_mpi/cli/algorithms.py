"""List the algorithms, each with one line, its source and its hyper-parameters."""

import argparse
import inspect
import re

from fedapm_mpi.cli import docstrings as source
from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.plugins.installed import installed_plugins

HELP = "list the algorithms"


class AlgorithmsCommand(LocalCommand):
    """List the algorithms."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line: there are no options."""

    def execute(self, args: argparse.Namespace) -> int:
        """Print the list; return the exit code."""
        modules = [f"algorithms.{name}" for name in source.parts("algorithms")]
        found = {source.registered(module): module for module in modules}
        installed = installed_plugins("fedapm_mpi.algorithms")
        width = max(map(len, [name for name, _ in found] + list(installed)))
        for (name, algorithm), module in sorted(found.items()):
            line, origin = described(source.docstring(module))
            print(f"{name:{width}}  {line}")  # noqa: T201
            if origin:
                print(f"{'':{width}}  from: {origin}")  # noqa: T201
            options = ", ".join(
                f"[{option}]" if optional else option
                for option, optional in source.options(module, algorithm).items()
            )
            print(f"{'':{width}}  options: {options}")  # noqa: T201
        builtin = {name for name, _ in found}
        for name, plugins in sorted(installed.items()):
            for plugin in plugins:
                line = f"installed by {plugin.distribution}: {plugin.target}"
                hidden = f", hidden by the built-in {name}" if name in builtin else ""
                print(f"{name:{width}}  {line}{hidden}")  # noqa: T201
        return 0


COMMAND = AlgorithmsCommand()


def described(docstring: str | None) -> tuple[str, str]:
    """Return the first line of an algorithm's docstring, and its reference or ""."""
    text = inspect.cleandoc(docstring or "")
    found = re.search(r"\bReferences?: (.+?)(?=\n\n|\Z)", text, re.DOTALL)
    source = re.sub(r"-\n\s*", "-", found[1]) if found else ""
    return text.partition("\n")[0], " ".join(source.split())
