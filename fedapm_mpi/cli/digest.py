"""Print the digest of a finished run: the SHA-256 of its whole final state."""

import argparse
from pathlib import Path

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.errors import DataError

HELP = "print the digest of a run's final state"


class DigestCommand(LocalCommand):
    """Print the digest of a run."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
        parser.add_argument(
            "--verify",
            action="store_true",
            help="recompute it from the state in final/ and compare",
        )
        parser.add_argument(
            "--trust",
            action="store_true",
            help="with --verify: import the custom code that RUN names, even if RUN "
            "was not made here",
        )

    def execute(self, args: argparse.Namespace) -> int:
        """Print the digest; return the exit code."""
        from fedapm_mpi.storage.final_state import read_digest

        path = args.run / "final" / "digest.txt"
        digest = read_digest(args.run)
        if args.verify:
            from fedapm_mpi.analysis.client_model import recompute_digest

            found = recompute_digest(args.run, trust=args.trust)
            if found != digest:
                msg = f"{path} says {digest}, but the state next to it has {found}"
                raise DataError(msg)
        print(digest)  # noqa: T201
        return 0


COMMAND = DigestCommand()
