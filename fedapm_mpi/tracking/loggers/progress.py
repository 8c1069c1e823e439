"""The logger ``progress``: a live bar on a terminal, one line a round elsewhere."""

import time
from collections.abc import Mapping
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from fedapm_mpi.tasks import LOSS
from fedapm_mpi.tracking.base import MetricsLogger, RunInfo, loggers
from fedapm_mpi.tracking.records import Record
from fedapm_mpi.tracking.summary import clients_of, share_of_clients
from fedapm_mpi.tracking.variants import LABELS
from fedapm_mpi.utils import terminal

LOSSES = {"test": "test loss", "val": "val loss", "train": "loss after training"}
"""What a line calls the loss of the evaluated part of a split."""


@loggers.register("progress")
def progress(run: RunInfo) -> MetricsLogger:
    """Return the display that ``--progress`` asks for.

    ``auto`` is live on a terminal and lines elsewhere. A launcher puts a pipe between
    rank 0 and the terminal, so the command that starts it must say ``live``.
    """
    kind = run.progress
    if kind == "auto":
        kind = "live" if terminal.stdout().isatty() else "lines"
    if kind == "live":
        return LiveProgress(run.rounds, run.first_round, run.metrics.headline)
    if kind == "lines":
        return LineProgress(run.rounds, run.metrics.headline)
    return NullProgress()


def format_metrics(record: Mapping[str, Any], headline: str) -> str:
    """Return the metrics of a round that fit on a line.

    `headline` is the metric that is shown besides the loss.
    """
    parts = []
    taken = record.get("num_participants")
    if taken == 0:
        parts.append("no participants")
    if record.get("train_loss") is not None:
        parts.append(f"train loss {record['train_loss']:.4f}" + _over(taken))
    if record.get("clients") == 0:
        parts.append(f"no client was evaluated{_over(0, record.get('num_clients'))}")
    elif record.get(headline) is not None:
        evaluated, m = clients_of(record, headline), record.get("num_clients")
        worst = clients_of(record, headline, "worst_decile_clients")
        parts.append(
            f"{LOSSES[record.get('evaluated_split', 'test')]} {record[LOSS]:.4f}  "
            f"{headline} {record[headline]:.4f}"
            f"{_over(evaluated, m)}  "
            f"worst decile {record[f'{headline}_worst_decile']:.4f}{_over(worst)}"
        )
        for name, label in LABELS.items():
            value = record.get(name, {}).get(headline)
            if value is not None:
                parts.append(f"{label} {value:.4f}")
    if record.get("primal_residual") is not None and record.get("rho") is not None:
        parts.append(f"primal {record['primal_residual']:.2e}")
    if record.get("dual_residual") is not None:
        parts.append(f"dual {record['dual_residual']:.2e}")
    return "  ".join(parts)


def _over(clients: int | None, of: int | None = None) -> str:
    """Return how many clients a metric is over, such as " (18 of 20 clients)"."""
    share = share_of_clients(clients, of)
    one = clients == 1 and of in (None, 1)
    return f" ({share} client{'' if one else 's'})" if share else ""


class LineProgress(MetricsLogger):
    """Prints one line a round."""

    def __init__(self, rounds: int, headline: str) -> None:
        self._rounds = rounds
        self._headline = headline
        self._before = time.monotonic()

    def log(self, record: Record, step: int) -> None:
        """Print a round's record as one line."""
        now = time.monotonic()
        width = len(str(self._rounds))
        terminal.echo(
            f"round {record['round']:{width}}/{self._rounds}  "
            f"{format_metrics(record, self._headline)}  {now - self._before:.2f} s"
        )
        self._before = now
        terminal.report_lost_output()


class LiveProgress(MetricsLogger):
    """Shows a live progress bar."""

    def __init__(self, rounds: int, start: int, headline: str) -> None:
        self._headline = headline
        self._latest = ""
        self._progress = Progress(
            TextColumn("round {task.completed}/{task.total}"),
            BarColumn(bar_width=12, table_column=Column(no_wrap=True)),
            TimeRemainingColumn(),
            # This one gives way on a narrow terminal, by another line.
            TextColumn("{task.fields[metrics]}", table_column=Column(no_wrap=False)),
            console=terminal.rich_console(terminal.stdout(), force_terminal=True),
            auto_refresh=False,
        )
        self._task = self._progress.add_task(
            "", total=rounds, completed=start, metrics=""
        )
        self._progress.start()

    def log(self, record: Record, step: int) -> None:
        """Advance the bar to a round's record."""
        value = record.get(self._headline)
        if value is not None and record.get("clients") != 0:
            known = clients_of(record, self._headline)
            over = share_of_clients(known, record.get("num_clients"))
            over = f"{over} clients, " if over else ""
            self._latest = f"{self._headline} {value:.4f} ({over}round {step})"
        loss = record.get("train_loss")
        metrics = self._latest
        if loss is not None:
            taken = _over(record.get("num_participants"))
            metrics = f"train loss {loss:.4f}{taken}  {metrics}"
        elif record.get("num_participants") == 0:
            metrics = f"no participants  {metrics}"
        self._progress.update(
            self._task, completed=record["round"], metrics=metrics, refresh=True
        )
        terminal.report_lost_output()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


class NullProgress(MetricsLogger):
    """Shows nothing."""

    def log(self, record: Record, step: int) -> None:
        """Ignore a round's record."""
