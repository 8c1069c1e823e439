"""Run the points of a study, one after the other, on this machine or allocation."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from fedapm_mpi.cluster.launch import command
from fedapm_mpi.cluster.launchers import Job
from fedapm_mpi.cluster.supervisor import run_launcher
from fedapm_mpi.errors import EXIT_RESUMABLE, FedAPMError
from fedapm_mpi.studies.scaling.points import Point
from fedapm_mpi.studies.scaling.study import Study
from fedapm_mpi.tracking.progress import echo
from fedapm_mpi.tracking.run_lock import acquire
from fedapm_mpi.utils.atomic_io import remove, write_error


class PointError(FedAPMError):
    """A point that did not come to its end; it has the exit code of its run."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_points(study: Study, points: Sequence[Point]) -> None:
    """Run all points that are not finished, in their order.

    One that was begun starts afresh, since timings of two starts are not alike.

    Raises
    ------
    PointError
        If one fails, or the study is stopped by a signal.
    ConfigError
        If there is no launcher for its ranks.
    """
    for ranks in {point.ranks for point in points}:
        _command(study, ranks, [])  # is there a launcher, before anything starts
    width = len(str(len(points)))
    for k, point in enumerate(points, 1):
        where = f"[{k:{width}}/{len(points)}] {point.name}:"
        if point.finished:
            echo(f"{where} finished before")
            continue
        begin = time.monotonic()
        run_point(study, point)
        took = time.monotonic() - begin
        echo(f"{where} {point.ranks} ranks, {took:.1f} s")


def run_point(study: Study, point: Point) -> None:
    """Run one point in a clean directory; see `run_points`."""
    _clear(point.run)
    words = _command(study, point.ranks, point.words)
    environment = {"OMP_NUM_THREADS": str(study.cpus_per_rank), **os.environ}
    with point.log.open("wb") as log:
        ended = run_launcher(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    if ended.code == EXIT_RESUMABLE or (ended.signals and not point.finished):
        msg = f"stopped in {point.name}; the same command goes on with the study"
        raise PointError(msg, EXIT_RESUMABLE)
    if ended.code or not point.finished:
        msg = f"{point.name} failed{_last_line(point.log)}; see {point.log}"
        # A launcher that died of a signal tells its number, which is no code of ours.
        own = 0 < ended.code < 128
        raise PointError(msg, ended.code if own else FedAPMError.exit_code)


def _clear(directory: Path) -> None:
    """Delete what was begun of a point, unless another job is at it."""
    if not directory.is_dir():
        return
    owner = acquire(directory)
    try:
        remove(directory)
    except OSError as error:
        raise write_error(directory, error) from error
    finally:
        owner.release()


def _command(study: Study, ranks: int, words: Sequence[str]) -> list[str]:
    job = Job(ranks=ranks, cores=study.cpus_per_rank)
    return command(job, words, launcher=study.launcher)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").split("\n")
    told = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" ({told.removeprefix('fedapm: error: ')})" if told else ""
