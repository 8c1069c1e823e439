"""Tables, notes and the CSV file of a scaling report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.studies.scaling.measurements import PHASES, Measurements
from fedapm_mpi.studies.scaling.points import Point
from fedapm_mpi.studies.scaling.speedup import Band
from fedapm_mpi.studies.scaling.summary import Row
from fedapm_mpi.utils import atomic_io

COLUMNS = (
    "kind", "client_ranks", "value", "clients", "participants", "repetitions",
    "seconds", "seconds_low", "seconds_high",
    "speed_up", "speed_up_low", "speed_up_high",
    "efficiency", "efficiency_low", "efficiency_high", "karp_flatt",
    *(f"{phase}_s" for phase in PHASES), "evaluation_s",
    "broadcast_bytes", "reduce_bytes", "participants_per_second",
)  # fmt: skip
"""Of scaling.csv."""

KINDS = {
    "strong": "the same clients on more ranks",
    "weak": "the same number of clients per rank",
    "size": "one key of the experiment varied",
}
"""Kinds of studies, and what varies in each."""


Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""A header, and rows with a cell for each column."""


def speedup_table(rows: Sequence[Row]) -> Table:
    """Return the table of speed-ups of one study."""
    header: tuple[str, ...] = (
        "client ranks", "clients", "s/round", "speed-up", "efficiency", "serial",
        "participants/s", "kB down, up",
    )  # fmt: skip
    table: list[tuple[str, ...]] = []
    for row in rows:
        gain = row.scaled
        table.append(
            (
                _label(row),
                f"{row.clients:,}",
                _band(row.seconds, 4),
                _band(gain.speed_up, 2) if gain else "–",
                _band(gain.efficiency, 2) if gain else "–",
                "–" if not gain or gain.serial is None else f"{gain.serial:.3f}",
                f"{row.per_second:.1f}",
                f"{row.broadcast_bytes / 1e3:,.4g}, {row.reduce_bytes / 1e3:,.4g}",
            )
        )
    return header, table


def phases_table(rows: Sequence[Row]) -> Table:
    """Return the table of phases of one study, in milliseconds."""
    header = ("client ranks", *PHASES, "evaluation")
    table = [
        (
            _label(row),
            *(f"{1e3 * row.phases[phase]:.2f}" for phase in PHASES),
            "–" if row.evaluation != row.evaluation else f"{1e3 * row.evaluation:.2f}",
        )
        for row in rows
    ]
    return header, table


def notes(rows: Sequence[Row], measured: Sequence[Measurements]) -> list[str]:
    """Return notes on how to read the tables."""
    found = []
    crowded = sorted({one.client_ranks for one in measured if one.oversubscription})
    if crowded:
        found.append(
            f"{', '.join(map(str, crowded))} client ranks had fewer cores than ranks: "
            "phases that need a core take longer there than with one core per rank"
        )
    works = [row.phases["work"] for row in rows if row.kind == "weak"]
    if works and max(works) > 1.1 * min(works):
        found.append(
            f"in the weak study the mean work of a rank varies from "
            f"{1e3 * min(works):.4g} to {1e3 * max(works):.4g} ms, so its efficiency "
            "does not depend on the number of ranks alone"
        )
    if any(row.repetitions == 1 for row in rows):
        found.append("a single repetition gives no confidence band")
    return found


def unfinished(points: Sequence[Point]) -> str:
    """Return a sentence on the unfinished points, which are left out."""
    names = ", ".join(point.name for point in points)
    return f"not finished, and left out: {names}; repeat fedapm scale run for them"


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file whole; numbers with six digits, an undefined one empty."""
    atomic_io.write_csv(path, header, rows, ".6g")


def cells(row: Row) -> list[Any]:
    """Return a row of scaling.csv."""
    gain = row.scaled
    none = [None] * 3
    return [
        row.kind,
        row.client_ranks,
        row.value,
        row.clients,
        row.participants,
        row.repetitions,
        *row.seconds,
        *(gain.speed_up if gain else none),
        *(gain.efficiency if gain else none),
        gain.serial if gain else None,
        *(row.phases[phase] for phase in PHASES),
        row.evaluation,
        row.broadcast_bytes,
        row.reduce_bytes,
        row.per_second,
    ]


def _label(row: Row) -> str:
    return f"{row.client_ranks} ({row.value})" if row.value else str(row.client_ranks)


def _band(found: Band, digits: int) -> str:
    if found.low != found.low:
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} ± {found.high - found.mean:.{digits}f}"
