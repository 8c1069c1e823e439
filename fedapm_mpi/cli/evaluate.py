"""Evaluate clients that had no part in a run: with what was shared, and fitted to them.

Of the run's own data set those clients are evaluated that it did not train: those that
``prepare … new_clients=`` has held out, or that the key ``clients`` left out. With
``--data`` it is all clients of another data set, prepared in the same way.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedapm_mpi.cli.arguments import Parser, check_folder
from fedapm_mpi.cli.command import Command
from fedapm_mpi.comm import Communicator
from fedapm_mpi.errors import ConfigError, FedAPMError

if TYPE_CHECKING:
    from fedapm_mpi.analysis.new_clients import NewClients

HELP = "evaluate clients that had no part in a run, on one process or under mpiexec"
EPOCHS = 10


@dataclass(frozen=True)
class EvaluateOptions:
    """A command line as rank 0 reads it, for all ranks."""

    run: Path
    config: dict[str, Any]
    out: Path
    trust: bool


class EvaluateCommand(Command[EvaluateOptions]):
    """Evaluate new clients."""

    parallel = True

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.add_argument("run", type=Path, metavar="RUN", help="a finished run")
        parser.add_argument(
            "--data",
            type=Path,
            metavar="DATA",
            help="another data set: all its clients",
        )
        parser.add_argument(
            "--part",
            choices=("test", "val", "train"),
            default="test",
            help="part of the clients' samples to evaluate (default: test)",
        )
        parser.add_argument(
            "--fit",
            choices=("personal", "shared", "all", "none"),
            help="block to fit to a client's own training samples (default: personal, "
            "or all where nothing is personal)",
        )
        parser.add_argument(
            "--epochs",
            type=int,
            default=EPOCHS,
            metavar="N",
            help=f"epochs of the fit (default: {EPOCHS})",
        )
        parser.add_argument(
            "--lr", type=float, metavar="X", help="its step size (default: the run's)"
        )
        parser.add_argument(
            "--batch-size",
            type=int,
            default=16,
            metavar="N",
            help="its mini-batches; 0 is the full batch (default: 16)",
        )
        parser.add_argument(
            "--out",
            type=Path,
            metavar="DIR",
            help="folder of the files (default: new_clients, in RUN)",
        )
        parser.add_argument(
            "--trust",
            action="store_true",
            help="import the custom code that RUN names, even if RUN was not made here",
        )

    def read(self, args: argparse.Namespace) -> EvaluateOptions | None:
        """Return the configuration of the evaluation."""
        from fedapm_mpi.analysis.new_clients import evaluation_config
        from fedapm_mpi.analysis.run import read_config
        from fedapm_mpi.config.loader import validate
        from fedapm_mpi.training.trust import require

        check_folder("--out", args.out)
        config = read_config(args.run)
        require(args.run, config.plain(), trusted=args.trust, way="--trust")
        data = config.data if args.data is None else str(args.data.absolute())
        fit = _fit(args, config)
        values = evaluation_config(config, data, args.part, fit)
        made = validate(values, f"evaluation of {args.run}")
        out = args.run / "new_clients" if args.out is None else args.out
        return EvaluateOptions(args.run, made.plain(), out, args.trust)

    def run(self, comm: Communicator, options: EvaluateOptions) -> int:
        """Evaluate, print and write; return the exit code."""
        from fedapm_mpi.analysis.new_clients import evaluate_new_clients
        from fedapm_mpi.config.schema import Config

        config = Config.from_plain(options.config)
        found = evaluate_new_clients(comm, options.run, config, trust=options.trust)
        error: FedAPMError | None = None
        if found is not None:
            try:
                _write(found, options)
                _print(found, options)
            except FedAPMError as caught:
                error = caught
        comm.raise_collectively(error)
        return 0


COMMAND = EvaluateCommand()


def _fit(args: argparse.Namespace, config: Any) -> dict[str, Any] | None:
    """Return how models are fitted, as options of `FineTune`; `None` if not at all."""
    from fedapm_mpi.analysis.new_clients import has_personal, step_size

    if args.fit == "none" or args.epochs == 0:
        return None
    lr = args.lr if args.lr is not None else step_size(config.algorithm)
    if lr is None:
        msg = f"--lr: {config.algorithm['name']} has no step size to take; give one"
        raise ConfigError(msg)
    block = args.fit or ("personal" if has_personal(config) else "all")
    work = {"epochs": args.epochs}
    return {"block": block, "lr": lr, "work": work, "batch_size": args.batch_size}


def _write(found: "NewClients", options: EvaluateOptions) -> None:
    from fedapm_mpi.config.yaml_io import dump
    from fedapm_mpi.tracking.run_directory import nonfinite_to_none
    from fedapm_mpi.utils.atomic_io import write_csv, write_error, write_text

    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as caught:
        raise write_error(options.out, caught) from caught
    write_csv(options.out / "clients.csv", found.columns, found.rows)
    text = json.dumps(nonfinite_to_none(found.record), indent=1, allow_nan=False)
    write_text(options.out / "summary.json", text + "\n")
    write_text(options.out / "config.yaml", dump(options.config))


def _print(found: "NewClients", options: EvaluateOptions) -> None:
    from fedapm_mpi.tracking.variants import BEFORE_FINE_TUNING
    from fedapm_mpi.utils.terminal import echo, print_table

    record, before = found.record, found.record.get(BEFORE_FINE_TUNING)
    part = record["evaluated_split"]
    names = ("mean", "std", "worst decile")
    header = ["metric", *names]
    if before is not None:
        header = ["metric", *(f"{name}, as given" for name in names)]
        header += [f"{name}, fitted" for name in names]
    rows = [
        [
            metric,
            *(_cells(before, metric) if before is not None else ()),
            *_cells(record, metric),
        ]
        for metric in found.metrics
    ]
    title = f"{record['clients']} new clients' own {part} parts"
    print_table(title, header, rows)
    echo(f"written to {options.out}")


def _cells(record: Any, metric: str) -> list[Any]:
    keys = (metric, f"{metric}_std", f"{metric}_worst_decile")
    return [record.get(key) for key in keys]
