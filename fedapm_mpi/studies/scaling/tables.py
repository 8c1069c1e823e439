"""What a scaling report says: tables, sentences and a CSV file."""

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

WAYS = {
    "strong": "the same clients on more ranks",
    "weak": "as many clients for each rank",
    "size": "the experiment changed",
}


Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""A header and rows of as many cells."""


def figures_table(rows: Sequence[Row]) -> Table:
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


def sentences(rows: Sequence[Row], measured: Sequence[Measurements]) -> list[str]:
    """Return what a reader of the tables should know."""
    told = []
    crowded = sorted({one.hosts for one in measured if one.crowd})
    if crowded:
        told.append(
            f"{', '.join(map(str, crowded))} client ranks had fewer cores than that: "
            "what takes a core takes longer there than on a machine with one for each"
        )
    shares = [row.phases["work"] for row in rows if row.kind == "weak"]
    if shares and max(shares) > 1.1 * min(shares):
        told.append(
            f"in the weak study a rank worked for {1e3 * min(shares):.4g} to "
            f"{1e3 * max(shares):.4g} ms in the mean: its efficiency is not of ranks "
            "alone"
        )
    if any(row.repetitions == 1 for row in rows):
        told.append("one repetition alone gives no confidence band")
    return told


def unfinished(points: Sequence[Point]) -> str:
    """Return a sentence on the points that are left out."""
    names = ", ".join(point.name for point in points)
    return f"not finished, and left out: {names}; the same study goes on with them"


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
