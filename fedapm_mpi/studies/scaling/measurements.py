"""Measurements of the finished points of a study, from their run directories."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.analysis.run import Run
from fedapm_mpi.errors import DataError
from fedapm_mpi.studies.scaling.points import Point
from fedapm_mpi.utils.log import get_logger

log = get_logger(__name__)

Array = NDArray[np.float64]

PHASES = (
    "broadcast", "work", "imbalance", "reduce", "server", "consensus", "idle",
)  # fmt: skip
"""Phases of a round, except evaluation, which few rounds have."""


@dataclass(frozen=True)
class Measurements:
    """A finished point: its rounds after the warm-up."""

    point: Point
    digest: str
    clients: int
    """Number of clients of the run, m."""

    broadcast_bytes: int
    reduce_bytes: int
    nodes: tuple[int, ...]
    """Node of each rank; -1 for the server."""

    oversubscription: float
    """Client ranks over the cores they may use, less 1, on the fullest host; 0 with a
    core for each."""

    rounds: NDArray[np.int64]
    """Index t of each round, from 0, from which its participants follow."""

    participants: Array
    phases: dict[str, Array]
    """Seconds of each of `PHASES`, round by round."""

    evaluations: Array
    """Seconds of each evaluation."""

    evaluated: NDArray[np.int64]
    """Index t of the rounds that end with an evaluation."""

    @property
    def seconds(self) -> float:
        """Median seconds of a round without evaluation."""
        return float(np.median(sum(self.phases.values())))

    def median(self, phase: str) -> float:
        """Return the median seconds of a phase."""
        return float(np.median(self.phases[phase]))

    @property
    def client_ranks(self) -> int:
        """Number of ranks that train, p."""
        return self.point.client_ranks


def read_points(
    points: Sequence[Point], warm_up: int
) -> tuple[list[Measurements], list[Point]]:
    """Return the measurements of finished points, and the unfinished points.

    Raises
    ------
    DataError
        If a run cannot be read.
    """
    found = [read_point(point, warm_up) for point in points if point.finished]
    return found, [point for point in points if not point.finished]


def read_point(point: Point, warm_up: int) -> Measurements:
    """Read one finished point.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        return _read_point(point, warm_up)
    except (LookupError, TypeError, ValueError, OSError) as error:
        msg = f"cannot use the records of {point.run} ({error!r:.200}); was it edited?"
        raise DataError(msg) from error


def _read_point(point: Point, warm_up: int) -> Measurements:
    run = Run.load(point.run)
    for note in run.notes:
        log.info("%s", note)
    records = [
        record
        for record in run.records
        if record["round"] > warm_up and record.get("wall_seconds") is not None
    ]
    if not records:
        msg = f"{point.run} has no round with a wall time; was it made by an older run?"
        raise DataError(msg)
    origin = run.provenance
    sizes = records[-1]["bytes"]
    shares = origin["nodes_that_share"] or range(point.ranks)
    nodes = tuple(-1 if rank == 0 else node for rank, node in enumerate(shares))
    ends = [r for r in records if "evaluate" in r["seconds"]]
    return Measurements(
        point=point,
        digest=run.digest,
        clients=sum(origin["clients_per_rank"]),
        broadcast_bytes=sizes["broadcast"],
        reduce_bytes=sizes["reduce"],
        nodes=nodes,
        oversubscription=_oversubscription(origin["ranks"]),
        rounds=np.array([r["round"] - 1 for r in records]),
        participants=np.array([r["num_participants"] for r in records], float),
        phases=_phases(records),
        evaluations=np.array([r["seconds"]["evaluate"] for r in ends], float),
        evaluated=np.array([r["round"] - 1 for r in ends], np.int64),
    )


def _phases(records: Sequence[dict[str, Any]]) -> dict[str, Array]:
    names = ("broadcast", "local", "local_mean", "reduce", "server", "consensus")
    taken = {
        name: np.array([r["seconds"].get(name, 0.0) for r in records]) for name in names
    }
    evaluate = np.array([r["seconds"].get("evaluate", 0.0) for r in records])
    wall = np.array([r["wall_seconds"] for r in records])
    slowest, mean = taken.pop("local"), taken.pop("local_mean")
    phases = taken | {"work": mean, "imbalance": np.maximum(0.0, slowest - mean)}
    phases["idle"] = np.maximum(0.0, wall - evaluate - sum(phases.values()))
    return {name: phases[name] for name in PHASES}


def _oversubscription(ranks: Sequence[dict[str, Any]]) -> float:
    """Return client ranks over cores, less 1, on the fullest host; at least 0."""
    cores: dict[str, set[int]] = {}
    training: dict[str, int] = {}
    for rank in ranks:
        host = rank["host"]
        cores.setdefault(host, set()).update(rank["cores"] or ())
        training[host] = training.get(host, 0) + (rank["rank"] > 0)
    ratios = [training[host] / len(held) for host, held in cores.items() if held]
    return max(0.0, max(ratios, default=0.0) - 1)
