"""List the algorithms, each with one line, its source and its hyper-parameters.

With ``--optimizers``, the local optimizers and the schedules of step sizes that any of
them can be given, with their options and defaults.
"""

import argparse
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from fedapm_mpi.cli import docstrings as source
from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.plugins.installed import installed_plugins
from fedapm_mpi.utils.text import format_value

HELP = "list the algorithms, local optimizers and schedules"

FOR_ALL = {
    "optimizers": "[state=reset], [personal], [shared]",
    "schedules": "[warmup=0], [rounds], [unit=round], [personal], [shared]",
}
"""By package: the options that its plug-ins have besides their own."""


class AlgorithmsCommand(LocalCommand):
    """List the algorithms, or what solves their local problems."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.add_argument(
            "--optimizers",
            action="store_true",
            help="list the local optimizers and the schedules instead",
        )

    def execute(self, args: argparse.Namespace) -> int:
        """Print the list; return the exit code."""
        if args.optimizers:
            _print_optimizers()
        else:
            _print_algorithms()
        return 0


COMMAND = AlgorithmsCommand()


def described(docstring: str | None) -> tuple[str, str]:
    """Return the first line of a plug-in's docstring, and its reference or ""."""
    text = inspect.cleandoc(docstring or "")
    found = re.search(r"\bReferences?: (.+?)(?=\n\n|\Z)", text, re.DOTALL)
    source = re.sub(r"-\n\s*", "-", found[1]) if found else ""
    return text.partition("\n")[0], " ".join(source.split())


def with_defaults(factory: Callable[..., Any]) -> str:
    """Return a factory's options, those in brackets with their defaults."""
    return ", ".join(
        one.name
        if one.default is inspect.Parameter.empty
        else f"[{one.name}={_plain(one.default)}]"
        for one in inspect.signature(factory).parameters.values()
    )


def _plain(value: Any) -> str:
    """Return a value as a configuration has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return format_value(value)


def _print_algorithms() -> None:
    modules = [f"algorithms.{name}" for name in source.parts("algorithms")]
    found = {source.registered(module): module for module in modules}
    width = _width("algorithms", (name for name, _ in found))
    for (name, algorithm), module in sorted(found.items()):
        line, origin = described(source.docstring(module))
        options = ", ".join(
            f"[{option}]" if optional else option
            for option, optional in source.options(module, algorithm).items()
        )
        _print_plugin(name, width, line, origin, options)
    _print_installed("algorithms", width, {name for name, _ in found})
    print("\nlocal optimizers and schedules: fedapm algorithms --optimizers")  # noqa: T201


def _print_optimizers() -> None:
    # torch's options are only in its signatures.
    from fedapm_mpi.optim.optimizers import optimizers
    from fedapm_mpi.optim.schedules import schedules

    names = {"optimizers": optimizers.builtin_names(),
             "schedules": schedules.builtin_names()}  # fmt: skip
    width = max(_width(package, names[package]) for package in names)
    print(f"Local optimizers, each also with {FOR_ALL['optimizers']}:\n")  # noqa: T201
    for name in names["optimizers"]:
        _print_part("optimizers", name, width, optimizers.get(name))
    _print_installed("optimizers", width, set(names["optimizers"]))
    print(f"\nSchedules, each also with {FOR_ALL['schedules']}:\n")  # noqa: T201
    for name in names["schedules"]:
        _print_part("schedules", name, width, schedules.get(name))
    _print_installed("schedules", width, set(names["schedules"]))


def _print_part(
    package: str, name: str, width: int, factory: Callable[..., Any]
) -> None:
    """Print what one module of `optim` registers."""
    # The reference is in the class's docstring, or in the module's.
    module = source.docstring(f"optim.{package}.{name.replace('-', '_')}")
    _, origin = described(f"{module}\n\n{inspect.getdoc(factory)}")
    line, _ = described(module)
    _print_plugin(name, width, line, origin, with_defaults(factory))


def _print_plugin(name: str, width: int, line: str, origin: str, options: str) -> None:
    print(f"{name:{width}}  {line}")  # noqa: T201
    if origin:
        print(f"{'':{width}}  from: {origin}")  # noqa: T201
    print(f"{'':{width}}  options: {options or 'none'}")  # noqa: T201


def _print_installed(package: str, width: int, builtin: set[str]) -> None:
    """Print the plug-ins that installed distributions declare."""
    for name, plugins in sorted(installed_plugins(f"fedapm_mpi.{package}").items()):
        for plugin in plugins:
            line = f"installed by {plugin.distribution}: {plugin.target}"
            hidden = f", hidden by the built-in {name}" if name in builtin else ""
            print(f"{name:{width}}  {line}{hidden}")  # noqa: T201


def _width(package: str, names: Iterable[str]) -> int:
    return max(map(len, [*names, *installed_plugins(f"fedapm_mpi.{package}")]))
