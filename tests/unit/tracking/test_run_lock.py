"""The lock on a run directory: one owner at a time, however the last one ended."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fedapm_mpi.errors import ConfigError, LockError, WriteError
from fedapm_mpi.tracking import run_lock as owner
from fedapm_mpi.tracking.lock_holder import Holder
from fedapm_mpi.tracking.run_directory import RunDirectory, lock_run_directory
from fedapm_mpi.tracking.run_lock import LOCK_FILE, acquire
from fedapm_mpi.utils import mounts

HOLD = """
import sys, time
from pathlib import Path
from fedapm_mpi.tracking.run_lock import acquire
held = acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""
HOLD_WITH_CHILDREN = """
import os, subprocess, sys, time
from pathlib import Path
from fedapm_mpi.tracking.run_lock import acquire
held = acquire(Path(sys.argv[1]))
program = subprocess.Popen(["sleep", "60"], close_fds=False)
forked = os.fork()
if forked:
    print(program.pid, forked, flush=True)
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


def test_the_second_reports_who_the_first_is(tmp_path, other):
    since = json.loads((tmp_path / LOCK_FILE).read_text())["since"]
    change(tmp_path, job="SLURM 77")
    with pytest.raises(LockError) as caught:
        acquire(tmp_path)
    reported = str(caught.value)
    assert f"process {other.pid} on {os.uname().nodename}, job SLURM 77" in reported
    assert f"since {since}" in reported
    assert "\n" not in reported
    assert caught.value.exit_code == 2
    with pytest.raises(LockError, match="end it first"):
        acquire(tmp_path, break_lock=True)


def test_it_ends_with_its_holder(tmp_path, other):
    other.kill()
    other.wait()
    start = time.monotonic()
    held = acquire(tmp_path)
    assert time.monotonic() - start < 0.5
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    held.release()
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_its_own_cannot_take_it_twice(tmp_path):
    held = acquire(tmp_path)
    with pytest.raises(LockError, match=f"process {os.getpid()}"):
        acquire(tmp_path)
    held.release()
    acquire(tmp_path).release()


def test_children_do_not_keep_it(tmp_path):
    """Nor one that was forked, nor another program, when it is killed itself."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_WITH_CHILDREN, str(tmp_path)],
        stdout=subprocess.PIPE,
    ) as process:
        children = [int(word) for word in process.stdout.readline().split()]
        assert len(children) == 2
        process.kill()
        process.wait()
        try:
            acquire(tmp_path).release()
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


def test_a_file_that_was_deleted_before_it_was_locked_is_no_lock(tmp_path, monkeypatch):
    """Another process gave the directory up, and a third has it already."""
    lock, third = owner._lock, []

    def late(descriptor):
        if not third:
            (tmp_path / LOCK_FILE).unlink()
            third.append(None)
            third[0] = acquire(tmp_path)
        return lock(descriptor)

    monkeypatch.setattr(owner, "_lock", late)
    with pytest.raises(LockError, match=f"process {os.getpid()}"):
        acquire(tmp_path)
    third[0].check()
    third[0].release()


def test_a_newer_lock_file_than_the_one_looked_at_is_put_back(tmp_path):
    (tmp_path / LOCK_FILE).write_text("theirs")
    with (tmp_path / "old").open("w") as old:
        owner._move_away(tmp_path / LOCK_FILE, old.fileno())
    assert (tmp_path / LOCK_FILE).read_text() == "theirs"
    assert {path.name for path in tmp_path.iterdir()} == {LOCK_FILE, "old"}


def test_a_holder_that_has_yet_to_write_its_name_is_waited_for(
    tmp_path, other, monkeypatch
):
    name = (tmp_path / LOCK_FILE).read_text()
    (tmp_path / LOCK_FILE).write_text("")
    monkeypatch.setattr(
        time, "sleep", lambda s: (tmp_path / LOCK_FILE).write_text(name)
    )
    with pytest.raises(LockError, match=f"process {other.pid} on"):
        acquire(tmp_path)


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "pipe"])
def test_something_else_by_its_name_is_one_sentence(tmp_path, kind):
    path, target = tmp_path / LOCK_FILE, tmp_path / "target"
    target.write_text("mine")
    if kind == "link":
        path.symlink_to(target)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nothing")
    else:
        (os.mkdir if kind == "directory" else os.mkfifo)(path)
    with pytest.raises(WriteError, match="move away what has this name"):
        acquire(tmp_path)
    assert target.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_the_file_alone_is_one(tmp_path, monkeypatch, number):
    no_locks(monkeypatch, number)
    monkeypatch.setattr(owner, "UNWRITTEN_SECONDS", 0.1)
    held = acquire(tmp_path)
    with pytest.raises(LockError, match=f"process {os.getpid()}"):
        acquire(tmp_path)
    with pytest.raises(LockError, match="end it first"):
        acquire(tmp_path, break_lock=True)
    held.check()
    # Of a process that is gone, and of another that has got its number.
    change(tmp_path, pid=2**22 + 1)
    acquire(tmp_path).close()
    change(tmp_path, ticks="1")
    acquire(tmp_path).close()
    # What cannot be seen from here counts, until a user says otherwise.
    for values in ({"host": "elsewhere"}, {"boot": "before"}):
        change(tmp_path, **values)
        with pytest.raises(LockError, match="add --break-lock"):
            acquire(tmp_path)
        acquire(tmp_path, break_lock=True).close()
    (tmp_path / LOCK_FILE).write_text("garbage")
    with pytest.raises(LockError, match=r"no name; .*--break-lock"):
        acquire(tmp_path)
    acquire(tmp_path, break_lock=True).release()
    assert list(tmp_path.iterdir()) == []


def test_a_broken_lock_is_noticed_by_who_had_it(tmp_path, monkeypatch):
    """It lived on another host after all, where locks do not reach."""
    monkeypatch.setattr(owner, "is_shared", lambda path: True)
    first = acquire(tmp_path)
    recorder = RunDirectory(tmp_path, first)
    recorder.add({"round": 0})
    recorder.sync()
    change(tmp_path, host="elsewhere")
    with pytest.raises(LockError, match=r"on elsewhere.*add --break-lock"):
        acquire(tmp_path)
    second = acquire(tmp_path, break_lock=True)
    with pytest.raises(LockError, match=f"now belongs to process {os.getpid()}"):
        recorder.sync()
    first.release()  # which leaves the other's
    second.check()
    second.release()


MOUNTS = r"""
9 2 0:9 / /home/disk rw - ext4 /dev/b rw
1 0 0:1 / / rw shared:1 - ext4 /dev/a rw
2 1 0:2 / /home rw - nfs4 server:/home rw,vers=4.2,local_lock=none
3 1 0:3 / /old rw - nfs server:/old rw,vers=3,nolock,local_lock=all
4 1 0:4 / /lustre rw - lustre 1@tcp:/l rw,flock
5 1 0:5 / /fast rw - lustre 1@tcp:/l rw,localflock
6 1 0:6 / /scratch rw,relatime - beegfs nodev rw
7 1 0:7 / /home/with\040space rw - fuse.sshfs a rw
8 1 0:8 / /gpfs rw - gpfs a rw
10 1 0:10 / /over rw - nfs a rw,nolock
11 1 0:11 / /over rw - ext4 /dev/c rw
12 1 0:12 / /share rw - cifs a rw
13 1 0:13 / /share/nobrl rw - cifs a rw,nobrl
broken
"""


@pytest.mark.parametrize(
    ("path", "reach", "shared"),
    [
        ("/x/y", True, False),
        ("/home/me/run", True, True),
        ("/old/run", False, True),
        ("/lustre/run", True, True),
        ("/fast/run", False, True),
        ("/scratch/run", False, True),
        ("/home/with space/run", False, True),
        ("/gpfs/run", True, True),
        ("/homes", True, False),
        ("/home/disk/run", True, False),
        ("/over/run", True, False),
        ("/share/run", True, True),
        ("/share/nobrl/run", False, True),
    ],
)
def test_what_the_mount_table_says(tmp_path, monkeypatch, path, reach, shared):
    monkeypatch.setattr(mounts, "TABLE", tmp_path / "mounts")
    (tmp_path / "mounts").write_text(MOUNTS)
    assert mounts.locks_reach_other_hosts(mounts.Path(path)) is reach
    assert mounts.is_shared(mounts.Path(path)) is shared


def test_a_lock_of_another_host_that_does_not_reach_here_counts(tmp_path, monkeypatch):
    (tmp_path / LOCK_FILE).touch()
    change_to = {**vars(Holder.current()), "host": "elsewhere"}
    (tmp_path / LOCK_FILE).write_text(json.dumps(change_to))
    monkeypatch.setattr(owner, "locks_reach_other_hosts", lambda path: False)
    with pytest.raises(LockError, match="on elsewhere"):
        acquire(tmp_path)
    monkeypatch.undo()
    acquire(tmp_path).release()


def test_only_an_empty_directory_is_a_new_run(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    before = (tmp_path / "thesis").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="not empty"):
        lock_run_directory(tmp_path / "thesis", resume=False)
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis").stat().st_mtime_ns == before  # nor for a moment
    mine = lock_run_directory(tmp_path / "a" / "b", resume=False)
    with pytest.raises(LockError):
        lock_run_directory(tmp_path / "a" / "b", resume=False)
    with pytest.raises(LockError):
        lock_run_directory(tmp_path / "a" / "b", resume=True)
    mine.release()
    lock_run_directory(tmp_path / "a" / "b", resume=False).release()


def test_a_run_that_has_ended_meanwhile_is_kept(tmp_path, monkeypatch):
    """It had the lock when this one looked first, and has given it up since."""

    def late(directory, **more):
        (directory / "config.yaml").touch()
        return acquire(directory, **more)

    monkeypatch.setattr(owner, "acquire", late)
    with pytest.raises(ConfigError, match="not empty"):
        lock_run_directory(tmp_path, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
