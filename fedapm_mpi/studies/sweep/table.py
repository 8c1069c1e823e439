"""The runs of a sweep in one table: what was replaced, and what came of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.analysis.comparison import COLUMNS, OPTIONAL_COLUMNS
from fedapm_mpi.analysis.run import last_round
from fedapm_mpi.errors import DataError
from fedapm_mpi.storage.final_state import read_digest
from fedapm_mpi.studies.sweep.grid import Cell
from fedapm_mpi.tracking.records import FILE, Records
from fedapm_mpi.tracking.summary import (
    HIGHER_IS_BETTER,
    share_of_clients,
    summarize_run,
)
from fedapm_mpi.utils.atomic_io import write_csv


def row_of(cell: Cell) -> dict[str, Any]:
    """Return a cell's line: its values, how far it is, its figures and its digest."""
    row: dict[str, Any] = {"cell": cell.name, **cell.values, "state": "not started"}
    row |= {"rounds": 0, "missing_rounds": 0, "seconds": None, "digest": None}
    try:
        reader = Records(cell.run)
        records = list(reader)
    except OSError as error:
        msg = f"cannot read {cell.run / FILE}: {error.strerror}"
        raise DataError(msg) from error
    last = last_round(cell.run, reader)
    if last >= 0 or cell.finished:
        summary = summarize_run(records, last if last >= 0 else None)
        row["missing_rounds"] = summary["num_missing_rounds"]
        row["rounds"] = summary["rounds"]
        row["state"] = "finished" if cell.finished else "not finished"
        row["seconds"] = sum(_seconds(record) for record in records)
        row["num_clients"] = summary.get("num_clients")
        row |= _figures(summary)
    if cell.finished:
        row["digest"] = read_digest(cell.run)
    return row


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the lines of all cells as CSV; an empty cell is undefined."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(path, header, [[row.get(key) for key in header] for row in rows])


def shown(cells: Sequence[Cell], rows: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Return the table for the terminal: values, state, rounds, accuracy and loss."""
    keys = [*cells[0].values, "state", "rounds"]
    figures = ["accuracy_mean", "accuracy_worst_decile"]
    figures += ["accuracy_worst_decile_clients", "loss_mean"]
    lines = []
    for row in rows:
        counts = row.get("accuracy_clients"), row.get("num_clients")
        line = [_plain(row.get(key)) for key in keys]
        line.append(share_of_clients(*counts) or None)
        lines.append([*line, *(_plain(row.get(key)) for key in figures)])
    return lines


def _figures(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{metric}_{column}": summary.get(metric, {}).get(key)
        for metric in HIGHER_IS_BETTER
        for column, key in (COLUMNS | OPTIONAL_COLUMNS).items()
    }


def _seconds(record: dict[str, Any]) -> float:
    """Return the seconds of a round, by its phases on the server."""
    seconds = record.get("seconds") or {}
    return float(sum(s or 0 for phase, s in seconds.items() if phase != "local_mean"))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value
