"""Turn raw data into a prepared data set: shards and a manifest."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedapm_mpi.cli.arguments import Parser, add_kernels, is_override
from fedapm_mpi.cli.command import Command
from fedapm_mpi.comm import SERVER, Communicator, Serial
from fedapm_mpi.comm.launch_env import launched_size
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils import kernels
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.terminal import printable
from fedapm_mpi.utils.text import shorten

log = get_logger(__name__)

HELP = "turn raw data into the shards that 'fedapm train' reads; may run under mpiexec"


MAX_NOTE_LENGTH = 1000
"""Characters of a note that are printed; those of user plug-ins may be longer."""

FLAGS = ("kernels",)
"""Flags that are keys of a configuration elsewhere."""


class PrepareOptions(NamedTuple):
    """What to prepare, the same on every rank."""

    wanted: Any
    origin: Path
    directory: Path
    force: bool


class PrepareCommand(Command[PrepareOptions]):
    """Prepare a data set."""

    parallel = True
    prints_result = False

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command's arguments."""
        parser.add_argument(
            "source", nargs="?", metavar="SOURCE", help="name of the source; see --list"
        )
        add_paths(parser, "the raw data", "directory of the prepared data set")
        parser.add_argument(
            "options",
            nargs="*",
            metavar="KEY=VALUE",
            help="clients, partitioner, partitioner.KEY, shift, shift.KEY, keep.KEY, "
            "test, val, split, seed, shards, store, compression, and options of the "
            "source",
        )
        parser.add_argument(
            "--force", action="store_true", help="replace a finished data set"
        )
        add_kernels(parser)
        parser.add_argument(
            "--list",
            action="store_true",
            help="list sources, partitioners and shifts, and stop",
        )

    def start(
        self, words: Sequence[str], parse: Callable[[], argparse.Namespace]
    ) -> int:
        """Run the command; on one process without MPI, which it does not need."""
        if launched_size()[0] > 1:
            return super().start(words, parse)
        args = parse()
        kernels.use(self.kernels(args))
        options = self.read(args)
        return 0 if options is None else self.run(Serial(), options)

    def kernels(self, args: argparse.Namespace) -> str:
        """Return those that the command line names."""
        named: str = args.kernels
        return named

    def read(self, args: argparse.Namespace) -> PrepareOptions | None:
        """Return what to prepare; print the lists if they are asked for."""
        if args.list:
            sys.stdout.write(_parts())
            return None
        # Only here: listing and --help do without what preparing needs.
        from data_prep.pipeline import plan

        source, values = request_of(args, "prepare")
        wanted = plan(source, values)
        return PrepareOptions(wanted, args.origin, args.directory, args.force)

    def run(self, comm: Communicator, options: PrepareOptions) -> int:
        """Prepare the data set and print an overview; return the exit code."""
        from data_prep.pipeline import prepare
        from fedapm_mpi.cli.inspect import overview

        manifest, written = prepare(
            options.wanted,
            options.origin,
            options.directory,
            force=options.force,
            comm=comm,
            tell=_log_note,
        )
        if comm.rank == SERVER:
            if not written:
                sys.stdout.write(
                    f"{options.directory} is this very data set: nothing to do\n"
                )
            sys.stdout.write(overview(manifest))
        return 0


COMMAND = PrepareCommand()


def _log_note(note: str) -> None:
    log.info("%s", printable(shorten(note, MAX_NOTE_LENGTH)))


def request_of(args: argparse.Namespace, command: str) -> tuple[str, dict[str, Any]]:
    """Return the source that was named, and the options, nested.

    Raises
    ------
    ConfigError
        If the source or a path is missing, or a word is no option or is a flag.
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
    overrides = list(filter(is_override, words))
    for word in overrides:
        key, _, value = word.partition("=")
        if key in FLAGS:
            msg = f"{command} has {key} as a flag: write --{key} {value}"
            raise ConfigError(msg)
    return sources[0], parse_overrides(overrides)


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
            metavar=(what, "KEY=VALUE"),
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
