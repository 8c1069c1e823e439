"""Metrics of a study, one row per point, and a comparison of its digests."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedapm_mpi.studies.scaling import speedup
from fedapm_mpi.studies.scaling.measurements import PHASES, Measurements
from fedapm_mpi.studies.scaling.speedup import Band, Scaled, band


@dataclass(frozen=True)
class Row:
    """All repetitions of a point."""

    kind: str
    client_ranks: int
    value: str
    clients: int
    repetitions: int
    seconds: Band
    """Per round, medians of repetitions, without evaluations."""

    scaled: Scaled | None
    """None in a study over size."""

    phases: dict[str, float]
    """Mean over repetitions of the median seconds of each phase."""

    evaluation: float
    """Seconds of one evaluation; NaN if there was none."""

    broadcast_bytes: int
    reduce_bytes: int
    participants: float
    """Mean number per round."""

    @property
    def case(self) -> str:
        """Name that its repetitions share, see `Point.case`."""
        parts = (self.kind, str(self.client_ranks), self.value)
        return "-".join(part for part in parts if part)

    @property
    def per_second(self) -> float:
        """Participants trained per second."""
        return self.participants / self.seconds.mean


def rows_of(measured: Sequence[Measurements]) -> list[Row]:
    """Return a row for each point that has a finished repetition."""
    cases: dict[str, list[Measurements]] = defaultdict(list)
    for one in measured:
        cases[one.point.case].append(one)
    rows = [_row(found, _scaled(measured, found[0])) for found in cases.values()]
    kinds = ("strong", "weak", "size")
    return sorted(rows, key=lambda row: (kinds.index(row.kind), row.client_ranks))


def differing(measured: Sequence[Measurements]) -> list[str]:
    """Return a sentence for each point or study whose runs have several digests.

    Within a strong study all must be equal; elsewhere those of one point.
    """
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in measured:
        point = one.point
        same = "the strong study" if point.kind == "strong" else point.case
        groups[same][one.digest].append(point.name)
    faults = []
    for same, found in groups.items():
        if len(found) > 1:
            parts = [f"{digest[:12]} ({', '.join(n)})" for digest, n in found.items()]
            faults.append(f"{same} ended with different digests: {'; '.join(parts)}")
    return faults


def _row(found: Sequence[Measurements], scaled: Scaled | None) -> Row:
    first = found[0]
    phases = {
        phase: float(np.mean([one.median(phase) for one in found])) for phase in PHASES
    }
    ends = np.concatenate([one.evaluations for one in found])
    return Row(
        kind=first.point.kind,
        client_ranks=first.point.client_ranks,
        value=first.point.value,
        clients=first.clients,
        repetitions=len(found),
        seconds=band([one.seconds for one in found]),
        scaled=scaled,
        phases=phases,
        evaluation=float(ends.mean()) if len(ends) else float("nan"),
        broadcast_bytes=first.broadcast_bytes,
        reduce_bytes=first.reduce_bytes,
        participants=float(np.mean([one.participants.mean() for one in found])),
    )


def _scaled(measured: Sequence[Measurements], one: Measurements) -> Scaled | None:
    kind = one.point.kind
    if kind == "size":
        return None
    seconds: dict[int, dict[int, float]] = defaultdict(dict)
    for other in measured:
        if other.point.kind == kind:
            ranks = other.point.client_ranks
            seconds[ranks][other.point.repetition] = other.seconds
    compare = speedup.strong if kind == "strong" else speedup.weak
    return compare(seconds)[one.point.client_ranks]
