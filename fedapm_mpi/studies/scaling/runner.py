"""Run the points of a study in order, on this machine or allocation."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from fedapm_mpi.cluster.launch import command
from fedapm_mpi.cluster.launchers import Job
from fedapm_mpi.cluster.supervisor import run_launcher
from fedapm_mpi.errors import EXIT_RESUMABLE, FedAPMError, PointError
from fedapm_mpi.studies.scaling.points import Point
from fedapm_mpi.studies.scaling.study import Study
from fedapm_mpi.tracking.run_lock import acquire
from fedapm_mpi.utils.atomic_io import remove, write_error
from fedapm_mpi.utils.terminal import echo


def run_points(study: Study, points: Sequence[Point]) -> None:
    """Run all unfinished points in order.

    A point that was interrupted starts again, since timings of two starts differ.

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
        msg = f"stopped in {point.name}; repeat the command to continue the study"
        raise PointError(msg, EXIT_RESUMABLE)
    if ended.code or not point.finished:
        msg = f"{point.name} failed{_last_line(point.log)}; see {point.log}"
        # A launcher that a signal killed returns its number, no exit code of ours.
        code = ended.code if 0 < ended.code < 128 else FedAPMError.exit_code
        raise PointError(msg, code)


def _clear(directory: Path) -> None:
    """Delete an unfinished run of a point, unless another job is running it."""
    if not directory.is_dir():
        return
    lock = acquire(directory)
    try:
        remove(directory)
    except OSError as error:
        raise write_error(directory, error) from error
    finally:
        lock.release()


def _command(study: Study, ranks: int, words: Sequence[str]) -> list[str]:
    job = Job(ranks=ranks, cores=study.cpus_per_rank)
    return command(job, words, launcher=study.launcher)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" ({last.removeprefix('fedapm: error: ')})" if last else ""
