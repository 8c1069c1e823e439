"""Check every sample of a data set: checksums, labels, lengths, disjoint parts."""

import argparse
import sys
from pathlib import Path

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.terminal import printable

log = get_logger(__name__)

HELP = "check a prepared data set, sample by sample"


class VerifyCommand(LocalCommand):
    """Check a prepared data set."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.add_argument(
            "data", type=Path, metavar="DATA", help="directory of the data set"
        )
        parser.add_argument(
            "--allow-repeats",
            action="store_true",
            help="accept samples that are in several splits or with several clients",
        )

    def execute(self, args: argparse.Namespace) -> int:
        """Check shard after shard, then all together; return the exit code."""
        from fedapm_mpi.data.verify import find_duplicates, join, verify

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
        every = join(prints)
        found = find_duplicates(manifest, every)
        if found.within:
            verb = "sample equals" if found.within == 1 else "samples equal"
            sys.stdout.write(
                f"{found.within} {verb} another one of the same client and split\n"
            )
        if found.apart and not args.allow_repeats:
            msg = (
                f"{args.data}: the parts are not disjoint: {'; '.join(found.apart)}. "
                "If that is on purpose, use --allow-repeats; otherwise prepare the "
                "data set again"
            )
            raise DataError(msg)
        for sentence in (*found.apart, *found.intended):
            sys.stdout.write(f"{printable(sentence)}\n")
        for sentence in found.equal:
            log.info("%s: possible leakage", printable(sentence))
        if (every.rows < 0).any():
            sys.stdout.write(
                "the origin of samples was not recorded: it is known only for distinct "
                "samples that the parts are disjoint\n"
            )
        elif not (found.apart or found.intended):
            sys.stdout.write("no sample is in two splits or with two clients\n")
        elif manifest.partitioner.get("one_split") is True and not found.apart:
            sys.stdout.write("no sample is in two splits\n")
        return 0


COMMAND = VerifyCommand()
