"""``fedapm prepare``: from raw data to shards."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedapm_mpi.cli.arguments import Parser, is_override
from fedapm_mpi.comm import SERVER, Communicator, Serial
from fedapm_mpi.comm.runtime import on_ranks, run_on_server
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.terminal import printable
from fedapm_mpi.utils.text import shorten

log = get_logger(__name__)

HELP = "turn raw data into the shards that 'fedapm train' reads, on any number of ranks"


MAX_NOTE_LENGTH = 1000
"""Characters of a note that are printed; those of own sources may have any length."""


def add_arguments(parser: Parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", nargs="?", help="name of the source; see --list")
    add_paths(parser, "the raw data", "where to write")
    parser.add_argument(
        "options",
        nargs="*",
        metavar="key=value",
        help="clients, partitioner, partitioner.KEY, shift, shift.KEY, test, val, "
        "split, seed, shards, store, compression, and the source's own options",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a finished data set"
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="list sources, partitioners and shifts, and end",
    )


def run(args: argparse.Namespace) -> int:
    """Prepare a data set on this process alone, and print what it is."""
    order = _read_options(args)
    return order if isinstance(order, int) else _prepare(Serial(), order)


def main(argv: Sequence[str]) -> int:
    """Prepare a data set on all ranks that a launcher has started."""
    return on_ranks(lambda comm: _on_ranks(comm, argv))


class PrepareOptions(NamedTuple):
    """What there is to do, the same on every rank."""

    wanted: Any
    origin: Path
    directory: Path
    force: bool


def _on_ranks(comm: Communicator, argv: Sequence[str]) -> int:
    def read() -> PrepareOptions | int:
        parser = Parser(prog="fedapm prepare", description=__doc__)
        add_arguments(parser)
        return _read_options(parser.parse_args(list(argv)))

    order = run_on_server(comm, read)
    return order if isinstance(order, int) else _prepare(comm, order)


def _prepare(comm: Communicator, order: PrepareOptions) -> int:
    from data_prep.pipeline import prepare
    from fedapm_mpi.cli.inspect import overview

    manifest, written = prepare(
        order.wanted,
        order.origin,
        order.directory,
        force=order.force,
        comm=comm,
        tell=_told,
    )
    if comm.rank == SERVER:
        if not written:
            sys.stdout.write(
                f"{order.directory} is this very data set: nothing to do\n"
            )
        sys.stdout.write(overview(manifest))
    return 0


def _told(note: str) -> None:
    log.info("%s", printable(shorten(note, MAX_NOTE_LENGTH)))


def _read_options(args: argparse.Namespace) -> PrepareOptions | int:
    """Return what a command line asks for; 0 for a list, which is shown."""
    if args.list:
        sys.stdout.write(_parts())
        return 0
    # Only here: listing and --help do without what preparing needs.
    from data_prep.pipeline import plan

    source, values = request_of(args, "prepare")
    return PrepareOptions(plan(source, values), args.origin, args.directory, args.force)


def request_of(args: argparse.Namespace, command: str) -> tuple[str, dict[str, Any]]:
    """Return the source that was named, and the options, nested.

    Raises
    ------
    ConfigError
        If the source or a path is missing, or a word is no option.
    """
    from fedapm_mpi.config.overrides import parse_overrides

    words = [word for word in (args.source, *args.options, *args.more) if word]
    sources = [word for word in words if not is_override(word)]
    if len(sources) > 1:
        msg = f"{sources[1]!r} is not of the form key=value"
        raise ConfigError(msg)
    missing = [
        what
        for what, value in (
            ("SOURCE", sources),
            ("--from PATH", args.origin),
            ("--to DIR", args.directory),
        )
        if not value
    ]
    if missing:
        msg = f"{command} needs {', '.join(missing)}; --list shows the sources"
        raise ConfigError(msg)
    return sources[0], parse_overrides(list(filter(is_override, words)))


def add_paths(parser: Parser, origin: str, target: str) -> None:
    """Declare --from and --to, after which options may follow."""
    for flag, dest, what, text in (
        ("--from", "origin", "PATH", origin),
        ("--to", "directory", "DIR", target),
    ):
        parser.add_argument(
            flag,
            dest=dest,
            nargs="+",
            action=_PathThenWords,
            metavar=(what, "key=value"),
            help=text,
        )
    parser.set_defaults(more=[])


class _PathThenWords(argparse.Action):
    """A flag with a path, after which options may follow as they may before it.

    argparse fills all positional arguments from the first run of words, and would
    refuse those that come after a flag.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, Path(values[0]))
        namespace.more = [*namespace.more, *values[1:]]


def _parts() -> str:
    """Return the sources, partitioners and shifts with what each says of itself."""
    from data_prep.partitioners import partitioners
    from data_prep.shifts import shifts
    from data_prep.sources import sources

    lines = []
    for registry in (sources, partitioners, shifts):
        lines.append(f"{registry.kind}s")
        width = max(map(len, registry.names())) + 2
        for name in registry.names():
            text = (registry.get(name).__doc__ or "").strip()
            lines.append(f"  {name:<{width}}{text.partition(chr(10))[0]}")
            split = re.search(r"^ *Split: (.+)$", text, re.MULTILINE)
            if split:
                lines.append(f"  {'':<{width}}split: {split[1]}")
        if registry is sources:
            lines.append("  (split=random makes a random split in place of its own)")
    return "\n".join(lines) + "\n"
