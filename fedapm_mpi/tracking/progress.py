"""What a person sees of a run: a live bar on a terminal, one line a round elsewhere."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from fedapm_mpi.tracking.summary import share_of_clients
from fedapm_mpi.utils import terminal

if TYPE_CHECKING:  # commands that print a table need no torch
    from fedapm_mpi.engine.partitioned_model import ParameterInfo
    from fedapm_mpi.tracking.run_directory import Record

ProgressKind = Literal["auto", "live", "lines", "none"]


LOSSES = {"test": "test loss", "val": "val loss", "train": "loss after training"}
"""What a line calls the loss of the evaluated part of a split."""


class ProgressReporter(Protocol):
    """Shows a run's progress."""

    def show(self, record: "Record") -> None:
        """Show a round's record."""
        ...

    def close(self) -> None:
        """Leave the terminal in order."""
        ...


def progress_reporter(kind: ProgressKind, rounds: int, start: int) -> ProgressReporter:
    """Return a display; ``auto`` is live on a terminal and lines elsewhere.

    A launcher puts a pipe between rank 0 and the terminal, so whoever starts it must
    say ``live``.
    """
    if kind == "auto":
        kind = "live" if terminal.stdout().isatty() else "lines"
    if kind == "live":
        return LiveProgress(rounds, start)
    return LineProgress(rounds) if kind == "lines" else NullProgress()


def format_metrics(record: Mapping[str, Any]) -> str:
    """Return the few figures of a round that fit on a line."""
    parts = []
    taken = record.get("num_participants")
    if taken == 0:
        parts.append("no participants")
    if record.get("train_loss") is not None:
        parts.append(f"train loss {record['train_loss']:.4f}" + _over(taken))
    if record.get("clients") == 0:
        parts.append(f"no client was evaluated{_over(0, record.get('num_clients'))}")
    elif record.get("accuracy") is not None:
        evaluated, m = record.get("clients"), record.get("num_clients")
        parts.append(
            f"{LOSSES[record.get('evaluated_split', 'test')]} {record['loss']:.4f}  "
            f"accuracy {record['accuracy']:.4f}"
            f"{_over(evaluated, m)}  "
            f"worst decile {record['accuracy_worst_decile']:.4f}"
            f"{_over(record.get('worst_decile_clients'))}"
        )
    if record.get("primal_residual") is not None and record.get("rho") is not None:
        parts.append(f"primal {record['primal_residual']:.2e}")
    if record.get("dual_residual") is not None:
        parts.append(f"dual {record['dual_residual']:.2e}")
    return "  ".join(parts)


def _over(clients: int | None, of: int | None = None) -> str:
    """Return over how many clients a figure is, such as " (18 of 20 clients)"."""
    share = share_of_clients(clients, of)
    one = clients == 1 and of in (None, 1)
    return f" ({share} client{'' if one else 's'})" if share else ""


class LineProgress:
    """One line a round."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._before = time.monotonic()

    def show(self, record: "Record") -> None:
        """Print a round's record as one line."""
        now = time.monotonic()
        width = len(str(self._rounds))
        echo(
            f"round {record['round']:{width}}/{self._rounds}  "
            f"{format_metrics(record)}  {now - self._before:.2f} s"
        )
        self._before = now
        terminal.report_lost_output()

    def close(self) -> None:
        """Do nothing."""


class LiveProgress:
    """A live progress bar."""

    def __init__(self, rounds: int, start: int) -> None:
        self._latest = ""
        self._progress = Progress(
            TextColumn("round {task.completed}/{task.total}"),
            BarColumn(bar_width=12, table_column=Column(no_wrap=True)),
            TimeRemainingColumn(),
            # This one gives way on a narrow terminal, by another line.
            TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=False)),
            console=_console(terminal.stdout(), force_terminal=True),
            auto_refresh=False,
        )
        self._task = self._progress.add_task(
            "", total=rounds, completed=start, figures=""
        )
        self._progress.start()

    def show(self, record: "Record") -> None:
        """Advance the bar to a round's record."""
        if record.get("accuracy") is not None and record.get("clients") != 0:
            over = share_of_clients(record.get("clients"), record.get("num_clients"))
            over = f"{over} clients, " if over else ""
            self._latest = (
                f"accuracy {record['accuracy']:.4f} ({over}round {record['round']})"
            )
        loss = record.get("train_loss")
        figures = self._latest
        if loss is not None:
            taken = _over(record.get("num_participants"))
            figures = f"train loss {loss:.4f}{taken}  {figures}"
        elif record.get("num_participants") == 0:
            figures = f"no participants  {figures}"
        self._progress.update(
            self._task, completed=record["round"], figures=figures, refresh=True
        )
        terminal.report_lost_output()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


class NullProgress:
    """No output."""

    def show(self, record: "Record") -> None:
        """Ignore a round's record."""

    def close(self) -> None:
        """Do nothing."""


def echo(text: str) -> None:
    """Print a line in one write, so that no other output can come into it.

    It never fails: an output that cannot be written does not end a run.
    """
    stream = terminal.stdout()
    stream.write(terminal.printable(text, lines=True) + "\n")
    stream.flush()


def print_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Print a table; its first column is left-aligned, the others right."""
    named = Text(terminal.printable(title), style="table.title")
    table = Table(title=named, title_justify="left")
    for k, name in enumerate(header):
        table.add_column(_literal(name), justify="left" if k == 0 else "right")
    for row in rows:
        table.add_row(*[_literal(_cell(value)) for value in row])
    stream = terminal.stdout()
    width = None if stream.isatty() else 120
    _console(stream, width=width).print(table)
    stream.flush()


def print_parameter_table(rows: Sequence["ParameterInfo"], longest: int = 40) -> None:
    """Print what is shared and what is personal, with counts."""
    total = sum(row.size for row in rows if row.block in ("shared", "personal"))
    counts = {
        block: sum(row.size for row in rows if row.block == block)
        for block in ("shared", "personal", "frozen", "buffer", "counter")
    }
    shown: list[Sequence[object]] = [
        (row.name, "×".join(map(str, row.shape)) or "1", row.size, row.block)
        for row in rows[:longest]
    ]
    if len(rows) > longest:
        shown.append((f"… {len(rows) - longest} more", "", "", ""))
    print_table("Model", ("tensor", "shape", "size", "block"), shown)
    for block in ("shared", "personal"):
        echo(f"{block}: {counts[block]:,} of {total:,} ({counts[block] / total:.1%})")


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    return f"{value:,}"


def _console(stream: terminal.Stream, **options: Any) -> Console:
    return Console(file=cast("IO[str]", stream), **options)


def _literal(text: str) -> Text:
    """Return text that is shown as it is, with its square brackets and colons."""
    return Text(terminal.printable(text))
