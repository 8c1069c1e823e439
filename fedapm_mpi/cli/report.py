"""Compare runs: a table here, and a CSV file and figures in a folder."""

import argparse
from pathlib import Path

from fedapm_mpi.cli.arguments import Parser, check_folder
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.utils.atomic_io import refuse_links, write_error

HELP = "compare runs on the same data: a table, a CSV file and figures"


class ReportCommand(LocalCommand):
    """Compare runs."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.add_argument(
            "runs", nargs="+", type=Path, metavar="RUN", help="run directory"
        )
        parser.add_argument(
            "--out",
            type=Path,
            metavar="DIR",
            help="folder of the files (default: report, in the first RUN)",
        )
        parser.old_flags["--to"] = "--out"

    def execute(self, args: argparse.Namespace) -> int:
        """Print and write the comparison; return the exit code."""
        # Only here, since --help needs none of it.
        from fedapm_mpi.analysis.comparison import (
            notes,
            read_runs,
            table_rows,
            write_comparison,
        )
        from fedapm_mpi.analysis.layer_tests import (
            draw_layers,
            last_test,
            print_layers,
        )
        from fedapm_mpi.analysis.plots import draw_clients, draw_curves
        from fedapm_mpi.tracking.summary import evaluated_parts
        from fedapm_mpi.utils.terminal import echo, print_table

        check_folder("--out", args.out)
        runs = read_runs(args.runs)
        parts = evaluated_parts(run.config.evaluation.split for run in runs)
        print_table(
            f"Clients' own {parts} parts, at the last evaluation",
            (
                "metric",
                "run",
                "mean",
                "clients",
                "worst decile",
                "clients in it",
                "std",
                "mean of last 10",
                "best",
                "round",
            ),
            table_rows(runs),
        )
        for line in notes(runs):
            echo(line)
        tests = {run.label: found[1] for run in runs if (found := last_test(run))}
        if tests:
            print_layers(runs)
        folder: Path = args.out or args.runs[0] / "report"
        if args.out is None:
            refuse_links(args.runs[0], ("report",))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        files = [folder / "comparison.csv"]
        write_comparison(files[0], runs)
        files += draw_curves(runs, folder / "curves")
        if all(one.clients for one in runs):
            files += draw_clients(runs, folder / "clients")
        if tests:
            files += draw_layers(tests, folder / "multiplier")
        echo(f"in {folder}: {', '.join(path.name for path in files)}")
        return 0


COMMAND = ReportCommand()
