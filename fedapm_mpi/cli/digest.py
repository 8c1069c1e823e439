"""Print the digest of a finished run: the SHA-256 of its whole final state."""

import argparse
from pathlib import Path

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.errors import DataError

HELP = "print the digest of a run's final state"


def add_arguments(parser: Parser) -> None:
    """Declare the command line."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compute it anew from the state in final/ and compare",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="with --verify: import the own parts that RUN names, though it was not "
        "made here",
    )


def run(args: argparse.Namespace) -> int:
    """Print the digest; return the exit code."""
    from fedapm_mpi.storage.final_state import read_digest

    path = args.run / "final" / "digest.txt"
    digest = read_digest(args.run)
    if args.verify:
        from fedapm_mpi.analysis.run import recompute_digest

        found = recompute_digest(args.run, trust=args.trust)
        if found != digest:
            msg = f"{path} says {digest}, but the state beside it has {found}"
            raise DataError(msg)
    print(digest)  # noqa: T201
    return 0
