"""Who holds a run: names in its lock file, and what is not believed of them."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from fedapm_mpi.errors import LockError
from fedapm_mpi.tracking import run_lock as owner
from fedapm_mpi.tracking.run_lock import LOCK_FILE, acquire

HOLD = """
import sys, time
from pathlib import Path
from fedapm_mpi.tracking.run_lock import acquire
held = acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Return another process that holds the lock of a directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def change(directory, **values):
    """Change what a lock file says."""
    path = directory / LOCK_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def no_locks(monkeypatch, number=errno.ENOLCK):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_the_name_of_a_dead_holder_is_not_that_of_the_next(
    tmp_path, other, monkeypatch
):
    monkeypatch.setattr(owner, "UNWRITTEN_SECONDS", 0.1)
    change(tmp_path, pid=2**22 + 1)
    with pytest.raises(LockError, match="a process that left no name"):
        acquire(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\0", b"[" * 9000, b'{"pid": 1}'])
def test_garbage_in_the_file_of_a_dead_holder_does_not_matter(tmp_path, raw):
    (tmp_path / LOCK_FILE).write_bytes(raw)
    acquire(tmp_path).release()


@pytest.mark.parametrize(
    "values",
    [
        {"host": "a\nb"}, {"job": "\x1b[2J"}, {"since": "x" * 300}, {"pid": "7"},
        {"pid": True}, {"pid": 0}, {"pid": 2**31}, {"restart": 1.5}, {"more": 1},
    ],
)  # fmt: skip
def test_a_name_that_no_run_writes_is_not_shown(tmp_path, other, monkeypatch, values):
    monkeypatch.setattr(owner, "UNWRITTEN_SECONDS", 0.1)
    change(tmp_path, **values)
    with pytest.raises(LockError, match="a process that left no name"):
        acquire(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\0"])
def test_garbage_in_the_file_of_a_living_holder_is_refused(
    tmp_path, other, monkeypatch, raw
):
    monkeypatch.setattr(owner, "UNWRITTEN_SECONDS", 0.1)
    (tmp_path / LOCK_FILE).write_bytes(raw)
    for force in (False, True):
        with pytest.raises(LockError, match="a process that left no name"):
            acquire(tmp_path, break_lock=force)


def test_a_process_that_no_parent_has_waited_for_is_gone(tmp_path, other, monkeypatch):
    no_locks(monkeypatch)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    acquire(tmp_path).release()


def test_a_job_that_was_requeued_is_its_own_heir(tmp_path, other, monkeypatch):
    """The scheduler has ended the earlier start, or is just doing so."""
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    change(tmp_path, job="SLURM 5", host="node7")
    reported = []

    def end(text):
        reported.append(text)
        other.kill()
        other.wait()

    acquire(tmp_path, tell=end).release()
    assert reported[0].startswith("waiting for the earlier start of this job, process")
    assert len(reported) == 1
    no_locks(monkeypatch)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    acquire(tmp_path).close()
    change(tmp_path, host="node7")
    with pytest.raises(LockError):
        acquire(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    acquire(tmp_path).release()
