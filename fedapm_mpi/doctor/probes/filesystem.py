"""What each rank sees of a folder that all should share; left as it was."""

import errno
import fcntl
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.data.hdf5 import open_with_locks, write_empty
from fedapm_mpi.doctor.findings import FilesystemReport
from fedapm_mpi.doctor.watchdog import Watchdog

PATIENCE = 10.0
"""Seconds after which a file that cannot be seen counts as not there."""

POLL_SECONDS = 0.02

Lock = Literal["seen", "not seen", "none"]


def probe(
    comm: Communicator, folder: Path, watch: Watchdog
) -> list[FilesystemReport] | None:
    """Write files on rank 0 and look for them everywhere; return what each saw there.

    Parameters
    ----------
    comm
        The ranks.
    folder
        An existing folder.
    watch
        Is told of every step.
    """
    watch.step(f"writing to {folder}")
    place, refused = _make(folder) if comm.rank == SERVER else (None, None)
    place, refused = comm.bcast_object((place, refused))
    if place is None:
        own = FilesystemReport(refused=refused if comm.rank == SERVER else None)
        return comm.gather_object(own)
    if comm.rank == SERVER:
        watch.removes(place)
    try:
        return comm.gather_object(_probe(comm, place, watch))
    finally:
        if comm.rank == SERVER:
            shutil.rmtree(place, ignore_errors=True)
            watch.removes(None)


def _make(folder: Path) -> tuple[Path | None, str | None]:
    place = folder / f".fedapm-doctor-{uuid.uuid4().hex[:12]}"
    try:
        place.mkdir()
        (place / "token").write_text("first", "utf-8")
        (place / "lock").touch()
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        return None, error.strerror or str(error)
    return place, None


def _probe(comm: Communicator, place: Path, watch: Watchdog) -> FilesystemReport:
    token = place / "token"
    watch.step(f"looking for a file in {place.parent}")
    patience = min(PATIENCE, watch.seconds / 2)
    seconds = _until(lambda: token.read_text("utf-8") == "first", patience)
    comm.barrier()
    if comm.rank == SERVER:
        (place / "token.part").write_text("second", "utf-8")
        (place / "token.part").replace(token)
    watch.step(f"looking for a renamed file in {place.parent}")
    comm.barrier()
    renamed = None
    if seconds is not None:
        renamed = _until(lambda: token.read_text("utf-8") == "second", patience)
    refused = None if seconds is None else _write(place / f"rank-{comm.rank}")
    watch.step(f"locking a file in {place.parent}")
    lock = _lock(comm, place / "lock", seen=seconds is not None)
    watch.step(f"opening an HDF5 file in {place.parent}")
    hdf5 = _hdf5(comm, place / "small.h5", seen=seconds is not None)
    return FilesystemReport(
        refused=refused, seconds=seconds, renamed=renamed, lock=lock, hdf5=hdf5
    )


def _until(seen: Callable[[], bool], patience: float) -> float | None:
    start = time.monotonic()
    while True:
        with suppress(OSError):
            if seen():
                return time.monotonic() - start
        if time.monotonic() - start > patience:
            return None
        time.sleep(POLL_SECONDS)


def _write(path: Path) -> str | None:
    try:
        path.write_text("written", "utf-8")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _lock(comm: Communicator, path: Path, *, seen: bool) -> Lock:
    """Return whether a lock that the server holds keeps this rank out."""
    with ExitStack() as stack:
        file = None
        if seen:
            with suppress(OSError):  # that it cannot write here is told elsewhere
                file = stack.enter_context(path.open("r+"))
        held = _try(file.fileno()) if file and comm.rank == SERVER else False
        if not comm.bcast_object(held):
            return "none"
        found: Lock = "seen"
        if file and comm.rank != SERVER:
            try:
                found = "not seen" if _try(file.fileno()) else "none"
            except BlockingIOError:
                found = "seen"
        comm.barrier()
    return found


def _try(descriptor: int) -> bool:
    """Lock a file; return False where there are no locks.

    Raises
    ------
    BlockingIOError
        If somebody else holds the lock.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError from error
        return False
    return True


def _hdf5(comm: Communicator, path: Path, *, seen: bool) -> str | None:
    """Return why this rank cannot open a file together with the others, if so."""
    fault = None
    if comm.rank == SERVER:
        try:
            write_empty(path)
        except OSError as caught:
            fault = str(caught)
    fault = comm.bcast_object((fault,))[0]
    if fault is not None or not seen:
        comm.barrier()
        return fault
    with open_with_locks(path) as error:
        comm.barrier()  # so that all have it open at once
    return None if error is None else str(error)
