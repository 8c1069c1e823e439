"""The runs of a sweep in one table: replaced values and results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.analysis.comparison import COLUMNS, OPTIONAL_COLUMNS
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.studies.sweep.grid import Cell
from fedapm_mpi.tasks import LOSS, MetricSet
from fedapm_mpi.tracking.summary import share_of_clients
from fedapm_mpi.tracking.variants import VARIANTS
from fedapm_mpi.utils.atomic_io import write_csv


def row_of(cell: Cell) -> dict[str, Any]:
    """Return a cell's row: its values, state, rounds, metrics and digest."""
    row: dict[str, Any] = {"cell": cell.name, **cell.values, "state": "not started"}
    row |= {"rounds": 0, "missing_rounds": 0, "seconds": None, "digest": None}
    run = Run(cell.run)
    if run.last_round >= 0 or cell.finished:
        summary = run.summary
        row["missing_rounds"] = summary["num_missing_rounds"]
        row["rounds"] = summary["rounds"]
        row["state"] = "finished" if cell.finished else "not finished"
        row["seconds"] = sum(_seconds(record) for record in run.records)
        row["num_clients"] = summary.get("num_clients")
        row |= _values(summary, run.metrics)
    if cell.finished:
        row["digest"] = run.digest
    return row


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the lines of all cells as CSV; an empty cell is undefined."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(path, header, [[row.get(key) for key in header] for row in rows])


def headline_of(cells: Sequence[Cell]) -> str:
    """Return the most important metric of the first cell that has started."""
    started = (cell for cell in cells if cell.run.is_dir())
    return Run(next(started, cells[0]).run).metrics.headline


def shown(
    cells: Sequence[Cell], rows: Sequence[dict[str, Any]], metric: str
) -> list[list[Any]]:
    """Return the table for the terminal: values, state, rounds, a metric and loss."""
    keys = [*cells[0].values, "state", "rounds"]
    columns = [f"{metric}_mean", f"{metric}_worst_decile"]
    columns += [f"{metric}_worst_decile_clients", f"{LOSS}_mean"]
    lines = []
    for row in rows:
        counts = row.get(f"{metric}_clients"), row.get("num_clients")
        line = [_plain(row.get(key)) for key in keys]
        line.append(share_of_clients(*counts) or None)
        lines.append([*line, *(_plain(row.get(key)) for key in columns)])
    return lines


def _values(summary: Mapping[str, Any], metrics: MetricSet) -> dict[str, Any]:
    found = {
        f"{metric}_{column}": summary.get(metric, {}).get(key)
        for metric in metrics.names
        for column, key in (COLUMNS | OPTIONAL_COLUMNS).items()
    }
    for name in VARIANTS:
        if name in summary:
            own = _values(summary[name], metrics)
            found |= {f"{name}_{key}": value for key, value in own.items()}
    return found


def _seconds(record: dict[str, Any]) -> float:
    """Return the seconds of a round, by its phases on the server."""
    seconds = record.get("seconds") or {}
    return float(sum(s or 0 for phase, s in seconds.items() if phase != "local_mean"))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value
