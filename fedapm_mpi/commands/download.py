"""``fedapm download``: raw data; the only command that needs a network."""

import argparse
import sys
from pathlib import Path

HELP = "get raw data from where its owners publish it"

SETS = ("cifar10", "ku-har", "watch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("dataset", choices=SETS, help="what to get")
    parser.add_argument("directory", type=Path, help="where to put it")


def run(args: argparse.Namespace) -> int:
    """Get a file, check it, and say where it is."""
    if args.dataset == "cifar10":
        from data_prep.sources import cifar10

        file = cifar10.fetch(args.directory, _progress)
    elif args.dataset == "ku-har":
        from data_prep.sources import ku_har

        file = ku_har.fetch(args.directory, _progress)
    else:
        from data_prep.sources import watch

        file = watch.fetch(args.directory)
    sys.stdout.write(
        f"{file}: complete and as expected; next: fedapm prepare {args.dataset} "
        f"--from {file} --to DIR\n"
    )
    return 0


def _progress(done: int, total: int) -> None:
    """Show how far a download is, where someone is looking."""
    if sys.stderr.isatty():
        of = f" of {total / 2**20:.0f}" if total else ""
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r{done / 2**20:.0f}{of} MiB{end}")
        sys.stderr.flush()
