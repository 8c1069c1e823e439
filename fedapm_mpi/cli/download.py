"""Download raw data from its publisher; the only command that needs a network."""

import argparse
import importlib
import sys
from pathlib import Path

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand

HELP = "download raw data from its publisher"

HUB = "hf:"
"""What the names of data sets on the hub begin with."""

SETS = {"cifar10": "cifar10", "ku-har": "ku_har", "watch": "watch"}
"""Modules of `data_prep.sources` by data set; each has a ``REMOTE``, or a ``fetch``."""


class DownloadCommand(LocalCommand):
    """Download raw data."""

    prints_result = False

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command's arguments."""
        parser.add_argument(
            "dataset",
            type=_known,
            metavar="DATASET",
            help=f"one of: {', '.join(SETS)}; or {HUB}OWNER/NAME, from the hub of "
            "Hugging Face",
        )
        parser.add_argument(
            "directory", type=Path, metavar="DIR", help="folder of the file"
        )

    def execute(self, args: argparse.Namespace) -> int:
        """Download a file, check it, and print where it is."""
        if args.dataset.startswith(HUB):
            return _from_hub(args.dataset.removeprefix(HUB), args.directory)
        module = importlib.import_module(f"data_prep.sources.{SETS[args.dataset]}")
        remote = getattr(module, "REMOTE", None)
        if remote is None:
            file = module.fetch(args.directory)
        else:
            from data_prep.download import download

            file = download(remote, args.directory, _progress)
        sys.stdout.write(
            f"{file}: complete and as expected; next: fedapm prepare {args.dataset} "
            f"--from {file} --to DIR\n"
        )
        return 0


COMMAND = DownloadCommand()


def _known(name: str) -> str:
    """Return the name of a data set that can be downloaded."""
    plain = name.replace("_", "-")
    if plain in SETS:
        return plain
    if name.startswith(HUB):
        return name
    known = ", ".join([*SETS, f"{HUB}OWNER/NAME"])
    msg = f"invalid choice: {name!r} (choose from {known})"
    raise argparse.ArgumentTypeError(msg)


def _from_hub(name: str, directory: Path) -> int:
    """Download a data set of the hub, and print where it is."""
    from data_prep.hub import fetch

    folder = fetch(name, directory)
    sys.stdout.write(
        f"{folder}: complete; next: fedapm prepare hf --from {folder} --to DIR\n"
    )
    return 0


def _progress(done: int, total: int) -> None:
    """Print the progress of a download on a terminal."""
    if sys.stderr.isatty():
        of = f" of {total / 2**20:.0f}" if total else ""
        end = "\n" if done == total else ""
        # A line that rewrites itself on a terminal: no message for a log.
        sys.stderr.write(f"\r{done / 2**20:.0f}{of} MiB{end}")
        sys.stderr.flush()
