"""Predict by a client's model of a finished run: for new rows of a table, or its own.

Rows are encoded as those that the run's data set was made of: its categories, means and
scales. What is written are the predictions that an evaluation has, bit for bit.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedapm_mpi.analysis.predictions import Predictions

HELP = "predict by a client's model of a finished run"


class PredictCommand(LocalCommand):
    """Predict for new rows, or for the samples that a client has."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.add_argument("run", type=Path, metavar="RUN", help="a finished run")
        parser.add_argument(
            "--client",
            required=True,
            metavar="CLIENT",
            help="whose model: a name, or a number from 0 on",
        )
        parser.add_argument(
            "--from",
            dest="origin",
            type=Path,
            metavar="TABLE",
            help="a .csv, .tsv, .parquet or .feather file with the columns of inputs",
        )
        parser.add_argument(
            "--part",
            choices=("test", "val", "train"),
            help="in its place: a part of the client's own samples",
        )
        parser.add_argument(
            "--to", type=Path, required=True, metavar="CSV", help="the file to write"
        )
        parser.add_argument(
            "--keep",
            action="append",
            default=[],
            metavar="COLUMN",
            help="a column of TABLE that is written, too; may be given several times",
        )
        parser.add_argument(
            "--tokenizer",
            metavar="DIR",
            help="what took texts apart, if the data set has columns of texts",
        )
        parser.add_argument(
            "--force", action="store_true", help="replace an existing file"
        )
        parser.add_argument(
            "--trust",
            action="store_true",
            help="import the custom code that RUN names, even if RUN was not made here",
        )

    def execute(self, args: argparse.Namespace) -> int:
        """Write the predictions; return the exit code."""
        from fedapm_mpi.analysis.predictions import predict, sample_arrays
        from fedapm_mpi.analysis.run import read_config
        from fedapm_mpi.data.manifest import read_manifest
        from fedapm_mpi.utils.atomic_io import write_csv

        _check(args)
        kept: Mapping[str, Sequence[str]] = {}
        if args.origin is None:
            found = predict(args.run, args.client, args.part, trust=args.trust)
        else:
            from data_prep.new_rows import read_new_rows

            manifest = read_manifest(read_config(args.run).data)
            rows = read_new_rows(
                args.origin, manifest, keep=args.keep, tokenizer=args.tokenizer
            )
            given = sample_arrays(manifest, rows.inputs, rows.lengths)
            found = predict(args.run, args.client, given, trust=args.trust)
            kept = rows.kept
        write_csv(args.to, *table(found, kept))
        print(f"{len(found.values)} predictions written to {args.to}")  # noqa: T201
        return 0


COMMAND = PredictCommand()


def _check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if (args.origin is None) == (args.part is None):
        msg = "give either --from TABLE, or --part for the client's own samples"
        raise ConfigError(msg)
    for name in ("keep", "tokenizer"):
        if args.origin is None and getattr(args, name):
            msg = f"--{name} has no effect without --from; leave it out"
            raise ConfigError(msg)
    if args.to.suffix != ".csv":
        msg = f"--to {args.to}: name a file that ends in .csv"
        raise ConfigError(msg)
    if args.to.exists() and not args.force:
        msg = f"{args.to} is there already; name another file, or --force"
        raise DataError(msg)


def table(
    found: "Predictions", kept: Mapping[str, Sequence[str]]
) -> tuple[list[str], Iterator[list[str]]]:
    """Return the header, and the lines of all samples."""
    chosen = ["predicted"] if found.classes else []
    header = ["row", *kept, *chosen, *found.names]
    return header, _lines(found, kept)


def _lines(
    found: "Predictions", kept: Mapping[str, Sequence[str]]
) -> Iterator[list[str]]:
    for row, values in enumerate(found.values):
        # The shortest texts that give the same float32 back.
        texts = [str(value) for value in values]
        own = [entries[row] for entries in kept.values()]
        yield [str(row), *own, *found.classes[row : row + 1], *texts]
