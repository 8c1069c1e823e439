"""Classify how fast a run's metrics converge: finite, linear or sublinear."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fedapm_mpi.analysis.convergence import Rate, fit_rate
from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.log import get_logger

log = get_logger(__name__)

HELP = "classify how fast a run converges, by its residuals or any other metric"

DEFAULT = ("primal_residual", "dual_residual", "lyapunov")
"""Metrics that are classified unless some are named, if they were measured."""

VANISHING = ("drift", "_residual", "_gap")
"""Endings of the metrics whose limit is 0; that of any other is estimated."""


class ConvergenceCommand(LocalCommand):
    """Classify rates of convergence."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
        parser.add_argument(
            "--metric",
            action="append",
            metavar="KEY",
            help="key of rounds.jsonl, such as drift or train_loss; may be repeated "
            f"(default: {', '.join(DEFAULT)}, if measured)",
        )
        parser.old_flags["--figure"] = "--metric"

    def execute(self, args: argparse.Namespace) -> int:
        """Print the rate of each metric; return the exit code."""
        # Only here, since --help needs none of it.
        from fedapm_mpi.analysis.run import Run
        from fedapm_mpi.utils.terminal import echo, print_table

        run = Run.load(args.run)
        records, notes = run.records, run.notes
        if notes and not any(_has(record, key) for record in records for key in record):
            msg = "; ".join(notes)
            raise DataError(msg)
        rates = {key: _rate(args.run, records, key) for key in _keys(args, records)}
        print_table(
            "Fits to the log gap: root-mean-square misfit; BIC: linear minus sublinear",
            (
                "metric",
                "regime",
                "points",
                "rounds",
                "misfit linear",
                "misfit sublinear",
                "BIC",
            ),
            [_row(key, rate) for key, rate in rates.items()],
        )
        for key, rate in rates.items():
            echo(f"{key} {rate.describe()}")
        for note in notes:
            log.info("%s", note)
        return 0


COMMAND = ConvergenceCommand()


def _keys(args: argparse.Namespace, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the metrics that are asked for, each once."""
    known = sorted({key for record in records for key in record if _has(record, key)})
    if not known:
        msg = f"the records of {args.run} hold no number yet; train a round first"
        raise DataError(msg)
    if args.metric is None:
        found = [key for key in DEFAULT if key in known]
        if not found:
            msg = (
                f"the records of {args.run} have none of {', '.join(DEFAULT)}; name a "
                f"metric by --metric (known: {', '.join(known)})"
            )
            raise ConfigError(msg)
        return found
    for key in args.metric:
        if key not in known:
            msg = (
                f"--metric {key}: the records of {args.run} have no such number"
                f"{did_you_mean(key, known)} (known: {', '.join(known)})"
            )
            raise ConfigError(msg)
    return list(dict.fromkeys(args.metric))


def _has(record: Mapping[str, Any], key: str) -> bool:
    value = record.get(key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and key != "round"


def _rate(run: Path, records: Sequence[Mapping[str, Any]], key: str) -> Rate:
    limit: Literal["estimate"] | None = None if key.endswith(VANISHING) else "estimate"
    used = [record for record in records if _has(record, key)]
    try:
        rounds = [record["round"] for record in used]
        return fit_rate([record[key] for record in used], rounds, limit)
    except (KeyError, ValueError) as error:
        msg = f"cannot use {run / 'rounds.jsonl'} ({error}); was it edited?"
        raise DataError(msg) from error


def _row(key: str, rate: Rate) -> Sequence[object]:
    if not rate.points:
        return (key, rate.kind, *["–"] * 5)
    rounds = f"{rate.first_round:g} to {rate.last_round:g}"
    return (
        key,
        rate.kind,
        rate.points,
        rounds,
        f"{rate.misfit_linear:.2g}",
        f"{rate.misfit_sublinear:.2g}",
        f"{rate.bic_difference:+.3g}",
    )
