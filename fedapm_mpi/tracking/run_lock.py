"""One owner of a run directory at a time: a lock, held for the life of a run.

The file ``fedapm.lock`` in the run directory names its holder: host, process,
scheduler job, start time. It is locked by ``flock``, so the kernel (or the file
system's server) releases it when the holder ends, however that happens. Where a file
system has no such locks, or they may hold on one host only, the file counts until its
holder is proven dead: by its process id and start time on this host, or because the
scheduler has started the same job again.

The library filelock does not do this: its flock does not name the holder, and it does
not detect mounts whose locks hold on one host only, or jobs that are started again.
"""

import errno
import fcntl
import os
import stat
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from fedapm_mpi.errors import LockError
from fedapm_mpi.tracking.lock_holder import Holder
from fedapm_mpi.utils.atomic_io import write_error
from fedapm_mpi.utils.mounts import is_shared, locks_reach_other_hosts

LOCK_FILE = "fedapm.lock"

NO_LOCKS = {
    errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL,
    errno.EPROTONOSUPPORT,
}  # fmt: skip
"""Errors of a file system without locks."""

REQUEUE_WAIT_SECONDS = 30.0
"""How long to wait for an earlier start of the same job to end."""

UNWRITTEN_SECONDS = 1.0
"""How long to wait for a holder that has not written its name yet."""


class RunLock:
    """The claim of this process to a run directory; see `acquire`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        _held.add(self)

    def check(self) -> None:
        """Check that no other process has broken the lock.

        Raises
        ------
        LockError
            If one has.
        """
        if self._is_ours():
            return
        msg = (
            f"{self.path.parent} is no longer this run's: its lock was broken or "
            f"deleted, and now belongs to {Holder.read(self.path) or 'no one'}"
        )
        raise LockError(msg)

    def release(self) -> None:
        """Release the directory; may be called more than once."""
        with suppress(OSError):
            if self._is_ours():
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the file; the lock itself remains while another process has it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _is_ours(self) -> bool:
        return self._descriptor >= 0 and _is_path_of(self.path, self._descriptor)


_held: "weakref.WeakSet[RunLock]" = weakref.WeakSet()


def _close_in_child() -> None:
    for lock in list(_held):
        lock.close()


# A forked child must not keep the lock alive when its parent is gone.
os.register_at_fork(after_in_child=_close_in_child)


def acquire(
    directory: Path,
    *,
    break_lock: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> RunLock:
    """Lock a run directory, and return the lock.

    Parameters
    ----------
    directory
        Must exist.
    break_lock
        Whether to take it from a holder that may live on another host.
    tell
        Called with a sentence if this waits.

    Raises
    ------
    LockError
        If another job owns it; the text names host, process, job and start time.
    WriteError
        If the lock file cannot be written.
    """
    path = directory / LOCK_FILE
    start = time.monotonic()
    waiting = False
    while True:
        try:
            found = _attempt(path, break_lock=break_lock)
        except OSError as error:
            raise write_error(path, error) from error
        if isinstance(found, RunLock):
            return found
        past = time.monotonic() - start
        unwritten = found is None and past < UNWRITTEN_SECONDS
        requeued = (
            found is not None and found.superseded and past < REQUEUE_WAIT_SECONDS
        )
        if not (unwritten or requeued):
            raise _refusal(directory, found, break_lock=break_lock)
        if requeued and not waiting:
            waiting = True
            tell(f"waiting for the earlier start of this job, {found}, to end")
        time.sleep(0.05)


def _attempt(path: Path, *, break_lock: bool) -> RunLock | Holder | None:
    """Return the lock, or who holds it, `None` if that is not known (yet)."""
    for _ in range(1000):
        descriptor, created = _open(path)
        if descriptor < 0:  # deleted just now
            continue
        try:
            state = _lock(descriptor)
            holder = None if created else Holder.read(path)
            broken = break_lock and _may_break(path, state, holder)
            if state == "held":
                if holder is not None and holder.is_alive is False:
                    return None  # the next one has not written its name yet
                if not broken:
                    return holder
            elif created or (state == "locked" and _proves(path, holder)):
                if _is_path_of(path, descriptor):
                    Holder.current().write(descriptor)
                    lock = RunLock(path, descriptor)
                    descriptor = -1
                    return lock
                continue
            elif not (broken or _is_over(holder)):
                return holder
            _move_away(path, descriptor)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    return None


def _open(path: Path) -> tuple[int, bool]:
    """Return a descriptor of the lock file, and whether it was made here."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        pass
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return -1, False
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EEXIST, "it is not a regular file")
    return descriptor, False


def _lock(descriptor: int) -> Literal["locked", "held", "none"]:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return "held"
        if error.errno in NO_LOCKS:
            return "none"
        raise
    return "locked"


def _proves(path: Path, holder: Holder | None) -> bool:
    """Return whether a lock that can be taken proves that its holder is dead."""
    return (holder is not None and holder.is_here) or locks_reach_other_hosts(path)


def _is_over(holder: Holder | None) -> bool:
    return holder is not None and (holder.superseded or holder.is_alive is False)


def _may_break(path: Path, state: str, holder: Holder | None) -> bool:
    """Return whether a holder may be on another host, so that a user may break in."""
    if state == "held" and not is_shared(path):  # by a process of this host
        return False
    return holder is None or holder.is_alive is not True


def _is_path_of(path: Path, descriptor: int) -> bool:
    try:
        there, ours = path.lstat(), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _move_away(path: Path, descriptor: int) -> None:
    """Delete the lock file, unless another file has taken its place."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if not _is_path_of(aside, descriptor):  # another process was faster: it is theirs
        with suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _refusal(directory: Path, holder: Holder | None, *, break_lock: bool) -> LockError:
    who = holder or "a process that left no name"
    if break_lock:
        todo = "--break-lock does not break the lock of a living process: end it first"
    elif holder is not None and holder.is_alive:
        todo = "wait until it ends, or end it"
    else:
        todo = "wait until it ends; if it is known to be dead, add --break-lock"
    return LockError(f"{directory} is being trained by {who}; {todo}")
