"""Whether all ranks share a folder, which is left as it was."""

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

VISIBILITY_TIMEOUT = 10.0
"""Seconds after which a file that a rank does not see counts as absent."""

POLL_SECONDS = 0.02
"""Seconds between two looks for a file."""

Lock = Literal["seen", "not seen", "none"]


def probe(
    comm: Communicator, folder: Path, watch: Watchdog
) -> list[FilesystemReport] | None:
    """Write files on rank 0 and look for them on all ranks; return all on the server.

    Parameters
    ----------
    comm
        The ranks.
    folder
        An existing folder.
    watch
        Is informed of every step.
    """
    watch.step(f"writing to {folder}")
    test_folder, refused = _make(folder) if comm.rank == SERVER else (None, None)
    test_folder, refused = comm.bcast_object((test_folder, refused))
    if test_folder is None:
        report = FilesystemReport(refused=refused if comm.rank == SERVER else None)
        return comm.gather_object(report)
    if comm.rank == SERVER:
        watch.set_cleanup(test_folder)
    try:
        return comm.gather_object(_probe(comm, test_folder, watch))
    finally:
        if comm.rank == SERVER:
            shutil.rmtree(test_folder, ignore_errors=True)
            watch.set_cleanup(None)


def _make(folder: Path) -> tuple[Path | None, str | None]:
    test_folder = folder / f".fedapm-doctor-{uuid.uuid4().hex[:12]}"
    try:
        test_folder.mkdir()
        (test_folder / "token").write_text("first", "utf-8")
        (test_folder / "lock").touch()
    except OSError as error:
        shutil.rmtree(test_folder, ignore_errors=True)
        return None, error.strerror or str(error)
    return test_folder, None


def _probe(comm: Communicator, test_folder: Path, watch: Watchdog) -> FilesystemReport:
    token = test_folder / "token"
    watch.step(f"looking for a file in {test_folder.parent}")
    patience = min(VISIBILITY_TIMEOUT, watch.seconds / 2)
    seconds = _until(lambda: token.read_text("utf-8") == "first", patience)
    comm.barrier()
    if comm.rank == SERVER:
        (test_folder / "token.part").write_text("second", "utf-8")
        (test_folder / "token.part").replace(token)
    watch.step(f"looking for a renamed file in {test_folder.parent}")
    comm.barrier()
    renamed = None
    if seconds is not None:
        renamed = _until(lambda: token.read_text("utf-8") == "second", patience)
    refused = None if seconds is None else _write(test_folder / f"rank-{comm.rank}")
    watch.step(f"locking a file in {test_folder.parent}")
    lock = _lock(comm, test_folder / "lock", visible=seconds is not None)
    watch.step(f"opening an HDF5 file in {test_folder.parent}")
    hdf5 = _hdf5(comm, test_folder / "small.h5", visible=seconds is not None)
    return FilesystemReport(
        refused=refused, seconds=seconds, renamed=renamed, lock=lock, hdf5=hdf5
    )


def _until(visible: Callable[[], bool], patience: float) -> float | None:
    start = time.monotonic()
    while True:
        with suppress(OSError):
            if visible():
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


def _lock(comm: Communicator, path: Path, *, visible: bool) -> Lock:
    """Return whether a lock that the server holds keeps this rank out."""
    with ExitStack() as stack:
        file = None
        if visible:
            with suppress(OSError):  # `writing` reports that
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
        If another process holds the lock.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError from error
        return False
    return True


def _hdf5(comm: Communicator, path: Path, *, visible: bool) -> str | None:
    """Return why this rank cannot open a file together with the others, if so."""
    fault = None
    if comm.rank == SERVER:
        try:
            write_empty(path)
        except OSError as caught:
            fault = str(caught)
    fault = comm.bcast_object((fault,))[0]
    if fault is not None or not visible:
        comm.barrier()
        return fault
    with open_with_locks(path) as error:
        comm.barrier()  # so that all have it open at once
    return None if error is None else str(error)
