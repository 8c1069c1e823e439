"""Check every sample of a data set: checksums, labels, lengths, and disjoint parts."""

import argparse
import sys
from pathlib import Path

from ..errors import DataError
from ..manifest import read_manifest
from ..terminal import printable

HELP = "check a prepared data set, sample by sample"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("data", type=Path, metavar="DATA", help="its directory")
    parser.add_argument(
        "--allow-repeats",
        action="store_true",
        help="accept samples that are there more than once, as their source may have "
        "them",
    )


def run(args: argparse.Namespace) -> int:
    """Check shard after shard, then all together; return the exit code."""
    from ..verification import OVERLAPPING, join, repeats, verify

    manifest = read_manifest(args.data)
    prints = []
    for shard, own in verify(manifest):
        first, stop = shard.clients
        sys.stdout.write(
            f"{printable(shard.name)}: clients {first} to {stop - 1}, "
            f"{len(own.clients)} samples, as written and as the manifest says\n"
        )
        sys.stdout.flush()
        prints.append(own)
    found = repeats(manifest, join(prints))
    if found.within:
        sys.stdout.write(
            f"{found.within} samples equal another one of the same client and split\n"
        )
    overlapping = str(manifest.partitioner.get("name", "")).startswith(OVERLAPPING)
    if found.apart and not (args.allow_repeats or overlapping):
        msg = (
            f"{args.data}: the parts are not disjoint: {'; '.join(found.apart)}. If "
            "the source has them so, use --allow-repeats; else look at it and prepare "
            "again"
        )
        raise DataError(msg)
    for sentence in found.apart:
        sys.stdout.write(f"{printable(sentence)}\n")
    if not found.apart:
        sys.stdout.write("no sample is in two splits or with two clients\n")
    return 0
