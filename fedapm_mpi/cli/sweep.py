"""Train one configuration with some values replaced, cell by cell, into one table.

A sweep.yaml names a configuration, and the keys and values to replace:

    config: mine.yaml
    grid: {algorithm.rho: [0.01, 0.1], seed: [0, 1, 2]}      # every combination
    zip: {model.hidden: [64, 128], algorithm.sigma: [0.1, 0.2]}  # these go together

``fedapm slurm submit --sweep sweep.yaml`` trains all cells as one job array.
"""

import argparse
from pathlib import Path

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.errors import EXIT_RESUMABLE, ConfigError
from fedapm_mpi.utils.log import get_logger

log = get_logger(__name__)

HELP = "train all cells of a sweep, or collect their results in one table"


class SweepCommand(LocalCommand):
    """Train the cells of a sweep, or gather their results."""

    prints_result = False

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        from fedapm_mpi.cli.launch import add_placing

        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        verbs = parser.add_subparsers(metavar="ACTION", dest="verb", required=True)
        run_all = verbs.add_parser("run", help="train the cells that are not finished")
        table = verbs.add_parser("table", help="collect the results in OUT/sweep.csv")
        for one in (run_all, table):
            one.add_argument("sweep", type=Path, metavar="SWEEP", help="the sweep.yaml")
        add_placing(run_all)

    def execute(self, args: argparse.Namespace) -> int:
        """Train or gather; return the exit code."""
        return _run_cells(args) if args.verb == "run" else _table(args.sweep)


COMMAND = SweepCommand()


def _run_cells(args: argparse.Namespace) -> int:
    from fedapm_mpi.cli.launch import job_of
    from fedapm_mpi.cluster.launch import command
    from fedapm_mpi.cluster.output_relay import relay_outputs
    from fedapm_mpi.cluster.supervisor import report_failure, run_launcher
    from fedapm_mpi.studies.sweep.grid import notes_on, read_sweep, write_cells
    from fedapm_mpi.utils.terminal import echo

    cells, out = read_sweep(args.sweep)
    for note in notes_on(cells):
        log.info("%s", note)
    write_cells(cells, out)
    relay_outputs()
    codes = []
    for k, cell in enumerate(cells):
        if cell.finished:
            echo(f"cell {k + 1}/{len(cells)} {cell.name}: finished before")
            continue
        echo(f"cell {k + 1}/{len(cells)} {cell.name}")
        config = out / "cells" / f"{cell.name}.yaml"
        words = ["train", str(config), "--run-dir", str(cell.run), "--resume"]
        words += ["--progress", "none"]
        ended = run_launcher(command(job_of(args), words, launcher=args.launcher))
        if ended.signals or ended.code == EXIT_RESUMABLE:
            return ended.code or EXIT_RESUMABLE
        report_failure(ended)
        codes.append(ended.code)
    _table(args.sweep)
    failed = sum(code != 0 for code in codes)
    if failed:
        echo(f"{failed} of {len(codes)} runs failed")
    return next((code for code in codes if code != 0), 0)


def _table(path: Path) -> int:
    from fedapm_mpi.studies.sweep.grid import read_sweep
    from fedapm_mpi.studies.sweep.table import headline_of, row_of, shown, write_table
    from fedapm_mpi.tasks import LOSS
    from fedapm_mpi.tracking.summary import evaluated_parts
    from fedapm_mpi.utils.terminal import echo, print_table

    cells, out = read_sweep(path)
    if not out.is_dir():
        msg = f"{out} does not exist: no cell of {path} was trained from this folder"
        raise ConfigError(msg)
    rows = [row_of(cell) for cell in cells]
    metric = headline_of(cells)
    header = [*cells[0].values, "state", "rounds", "clients", metric]
    header += ["worst decile", "clients in it", LOSS]
    parts = evaluated_parts(cell.config["evaluation"]["split"] for cell in cells)
    print_table(f"Clients' own {parts} parts", header, shown(cells, rows, metric))
    write_table(out / "sweep.csv", rows)
    for row in rows:
        if row["missing_rounds"]:
            log.info(
                "cell %s: records are missing (rounds: %s); its figures are over the "
                "others",
                row["cell"],
                row["missing_rounds"],
            )
    finished = sum(row["state"] == "finished" for row in rows)
    echo(f"{finished} of {len(rows)} cells finished; in {out / 'sweep.csv'}")
    return 0
