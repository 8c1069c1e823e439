"""Run the points of a study, one after the other, on this machine or allocation."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ..console import say
from ..errors import ConfigError, FedAPMError
from ..launchers import Job
from ..launching import command
from ..stopping import Stop, stop_signals
from .points import Point
from .study import Study

LOOK = 0.1
"""Seconds between looks at whether somebody wants to stop."""

STOPPED_EARLY = 75


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
    with stop_signals() as stop:
        for k, point in enumerate(points, 1):
            where = f"[{k:{width}}/{len(points)}] {point.name}:"
            if point.finished:
                say(f"{where} finished before")
                continue
            begin = time.monotonic()
            run_point(study, point, stop)
            took = time.monotonic() - begin
            say(f"{where} {point.ranks} ranks, {took:.1f} s")


def run_point(study: Study, point: Point, stop: Stop) -> None:
    """Run one point in a clean directory; see `run_points`."""
    if point.run.exists():
        shutil.rmtree(point.run)
    words = _command(study, point.ranks, point.words)
    environment = {"OMP_NUM_THREADS": str(study.cores), **os.environ}
    with point.log.open("wb") as log:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        except OSError as error:
            msg = f"cannot start {words[0]}: {error.strerror or error}"
            raise ConfigError(msg) from error
        code = _wait(process, stop)
    if code == STOPPED_EARLY:
        msg = f"stopped in {point.name}; the same command goes on with the study"
        raise PointError(msg, code)
    if code or not point.finished:
        msg = f"{point.name} failed{_last_line(point.log)}; see {point.log}"
        raise PointError(msg, code if code > 0 else FedAPMError.exit_code)


def _wait(process: "subprocess.Popen[bytes]", stop: Stop) -> int:
    """Wait for a run's end and return its exit code; pass on a wish to stop."""
    told = False
    try:
        while True:
            try:
                return process.wait(LOOK)
            except subprocess.TimeoutExpired:
                if stop.asked and not told:
                    process.send_signal(signal.SIGTERM)
                    told = True
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _command(study: Study, ranks: int, words: Sequence[str]) -> list[str]:
    job = Job(ranks=ranks, cores=study.cores)
    return command(job, words, launcher=study.launcher)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").split("\n")
    told = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" ({told.removeprefix('fedapm: error: ')})" if told else ""
