"""Make features of an archive's pictures, sound, film and text, on one rank or many."""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.prepare import add_paths, request_of
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.comm.runtime import on_ranks, run_on_server
from fedapm_mpi.config import plugin_sources
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.plugins.names import display_name, is_user_plugin

HELP = "make features of pictures, sound and text; may be started under mpiexec"

UPDATE_SECONDS = 10.0
"""Seconds between two lines on how far it is."""


class ExtractOptions(NamedTuple):
    """What rank 0 makes of the command line, for all ranks."""

    name: str
    origin: Path
    directory: Path
    options: dict[str, Any]


def add_arguments(parser: Parser) -> None:
    """Declare the command line."""
    parser.add_argument("source", nargs="?", help="name of the archive; see --list")
    add_paths(parser, "the archive's folder", "where the features go")
    parser.add_argument(
        "options", nargs="*", metavar="key=value", help="the archive's own options"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the archives, and end"
    )


def run(args: argparse.Namespace) -> int:
    """Not used: `main` parses on rank 0 only."""
    raise NotImplementedError


def main(argv: Sequence[str]) -> int:
    """Run the command on every rank; return the exit code."""
    return on_ranks(lambda comm: _extract(comm, argv))


def _extract(comm: Communicator, argv: Sequence[str]) -> int:
    order = run_on_server(comm, lambda: _read_options(argv))
    if isinstance(order, int):
        return order
    import torch

    from data_prep.extractors import extractors
    from data_prep.feature_extraction import extract

    # Ranks share the cores; more threads here would only be in each other's way.
    torch.set_num_threads(1)
    extractor = _extractor(comm, extractors.get(order.name), order)
    begun = time.monotonic()
    found = extract(
        comm,
        extractor,
        order.directory,
        identity=_identity(order, extractor),
        skip_broken=bool(order.options.get("skip_broken")),
        tell=_Progress(),
    )
    if comm.rank == SERVER:
        _say(
            f"{order.directory}: {len(found['names'])} items of {found['dataset']}, "
            f"{len(found['skipped'])} broken ones left out, "
            f"{time.monotonic() - begun:.0f} s"
        )
    return 0


def _deciding(extractor: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options but those that came later and are at their defaults."""
    added = getattr(extractor, "added", {})
    return {k: v for k, v in options.items() if k not in added or v != added[k]}


def _extractor(
    comm: Communicator, factory: Callable[..., Any], order: ExtractOptions
) -> Any:
    """Return the extractor; a collective call, since a user's own may fail."""
    from fedapm_mpi.training.plugin_checks import check_methods

    made: Any = None
    error: FedAPMError | None = None
    try:
        made = factory(order.origin, **order.options)
        needed = ("dataset", "inputs", "items", "facts", "extract")
        check_methods("extractor", {"name": order.name}, made, *needed)
    except Exception as caught:
        error = to_fedapm_error(caught, building=True)
    comm.raise_collectively(error)
    return made


def _identity(order: ExtractOptions, extractor: Any) -> dict[str, Any]:
    """Return what decides the features: the extractor, its options and its code."""
    found = {
        "extractor": order.name,
        "options": _deciding(extractor, order.options),
    }
    if not is_user_plugin(order.name):
        return found
    part = plugin_sources.without_folder({"name": order.name})
    code = plugin_sources.hashes_of([order.name])
    return {**found, "extractor": part["name"], plugin_sources.KEY: code}


class _Progress:
    """Tells how far it is, now and then."""

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None
        self._told = -UPDATE_SECONDS

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        self._begun = self._begun or (now, done)
        if done < of and now - self._told < UPDATE_SECONDS:
            return
        self._told = now
        begun, before = self._begun
        left = ""
        if done > before and done < of:
            seconds = (now - begun) / (done - before) * (of - done)
            left = f", about {seconds / 60:.0f} min left"
        _say(f"{done} of {of} chunks{left}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _read_options(argv: Sequence[str]) -> ExtractOptions | int:
    from data_prep.extractors import extractors
    from fedapm_mpi.config.validation import validate_options

    parser = Parser(prog="fedapm extract", description=__doc__)
    add_arguments(parser)
    args = parser.parse_args(list(argv))
    if args.list:
        for name in extractors.names():
            first = (extractors.get(name).__doc__ or "").partition("\n")[0]
            _say(f"{name:<12}{first}")
        return 0
    source, given = request_of(args, "extract")
    dashed = source.replace("_", "-")
    builtin = dashed in extractors.builtin_names()
    name = extractors.resolve(dashed if builtin else source)
    options, errors = validate_options(
        f"extract {display_name(name)!r}", extractors.get(name), given, 1
    )
    if errors:
        raise ConfigError("\n".join(errors))
    return ExtractOptions(name, args.origin, args.directory, options)
