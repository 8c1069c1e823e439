"""Start-up and collective shutdown of the ranks."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from fedapm_mpi.comm import interrupts
from fedapm_mpi.comm.base import SERVER, Communicator
from fedapm_mpi.comm.launch_env import launched_rank, launched_size
from fedapm_mpi.comm.serial import Serial
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.plugins.errors import blamed_plugin, debug_enabled, to_fedapm_error
from fedapm_mpi.utils import terminal
from fedapm_mpi.utils.early_interrupt import INTERRUPTED
from fedapm_mpi.utils.log import get_logger, only_errors

log = get_logger(__name__)

T = TypeVar("T")
ABORT_PATIENCE = 5.0
"""Seconds that ranks which cannot see each other give rank 0 to print that."""

YIELD_SECONDS = 1.0
"""Seconds that an interrupted rank gives rank 0 to report it and end the job."""

STAGGER_SECONDS = 1.0
"""Seconds by which each rank prints an error later than the rank before it."""

LAST_RANK_DELAY = 2.0
"""Seconds by which the server leaves after the others."""


def open_communicator() -> Communicator:
    """Return the communicator of all ranks, or `Serial` on a machine without MPI.

    Raises
    ------
    ConfigError
        If a launcher started several ranks that cannot see each other.
    """
    launched, variable = launched_size()
    try:
        from fedapm_mpi.comm.mpi import world
    except (ImportError, RuntimeError) as error:  # mpi4py, or its library, is not there
        if launched > 1:
            msg = (
                f"{variable} says that {launched} ranks were started, but there is no "
                f"MPI library to load ({error}); load your cluster's MPI module, or "
                "install one: pip install mpich"
            )
            raise ConfigError(msg) from error
        return Serial()
    communicator = world()
    return Serial() if communicator.size == 1 else communicator


def on_ranks(
    body: Callable[[Communicator], int],
    alone: Callable[[FedAPMError], None] | None = None,
) -> int:
    """Run `body` on every rank and return its exit code.

    An error that all ranks raise together is printed once, by rank 0, and all ranks
    shut down without an abort. Any other is printed by the failing rank and ends the
    whole job at once: the others would wait in a collective until the job's time is up.
    If several ranks fail, the lowest of them prints its error.

    Parameters
    ----------
    body
        What to run.
    alone
        What each process does where they cannot see each other; by default rank 0
        prints the error, and the others give it time for that.
    """
    try:
        comm = open_communicator()
    except FedAPMError as error:
        (alone or _print_error_once)(error)
        return error.exit_code
    if comm.rank != SERVER:
        only_errors()
    try:
        return _leave(comm, body(comm))
    except FedAPMError as error:
        if error.agreed or comm.size == 1:
            if comm.rank == SERVER:
                print_error(error)
            return _leave(comm, error.exit_code)
        _abort(comm, error)
    except KeyboardInterrupt as error:
        return _interrupted(comm, str(error))
    except BaseException as error:  # SystemExit too: others would wait forever
        if (
            comm.size == 1
            and isinstance(error, SystemExit)
            and not blamed_plugin(error)
        ):
            raise
        found = to_fedapm_error(error)
        if comm.size == 1:
            print_error(found)
            return found.exit_code
        _abort(comm, found)


def call_on_ranks(body: Callable[[Communicator], T]) -> T:
    """Return on every rank what `body` returns there; errors are raised.

    For programs that use this package as a library, started by an MPI launcher or not.

    Parameters
    ----------
    body
        What every rank calls.

    Raises
    ------
    FedAPMError
        On every rank if all raise it together. If only some ranks of several raise, the
        lowest of them prints the error, and the whole job ends: the others would wait
        for them in a collective call.
    """
    comm = open_communicator()
    if comm.rank != SERVER:
        only_errors()
    try:
        return body(comm)
    except FedAPMError as error:
        if error.agreed or comm.size == 1:
            raise
        _abort(comm, error)
    except KeyboardInterrupt as error:
        if comm.size > 1:
            _interrupted(comm, str(error))
        raise
    except Exception as error:
        found = to_fedapm_error(error)
        if comm.size == 1:
            raise found from error
        _abort(comm, found)


def _abort(comm: Communicator, error: FedAPMError) -> NoReturn:
    """Print an error that only some ranks have, and end the whole job."""
    # Ranks that fail alike come here together: the lowest prints, and ends the others.
    time.sleep(min(STAGGER_SECONDS * comm.rank, ABORT_PATIENCE))
    print_error(error, f"rank {comm.rank} of {comm.size}: ")
    comm.abort(error.exit_code)


def _interrupted(comm: Communicator, hint: str) -> int:
    """End the job at once; rank 0 says so, and the others give it time for that."""
    if comm.rank != SERVER:
        time.sleep(YIELD_SECONDS)
    interrupts.report_interrupt(hint)
    if comm.size > 1:
        comm.abort(INTERRUPTED)
    return INTERRUPTED


def _leave(comm: Communicator, exit_code: int) -> int:
    """Return the exit code of this rank, once all ranks have come here.

    srun ends those that are still on their way out once the first has left with an
    error, and reports the signal that did it. So the server leaves a step last, and
    alone with a code other than 0.
    """
    if exit_code == 0 or comm.size == 1:
        return exit_code
    if "SLURM_STEP_ID" not in os.environ:
        comm.barrier()  # none leaves with an error before it has been printed
        return exit_code
    sys.stdout.flush()
    comm.finalize()
    if comm.rank != SERVER:
        return 0
    time.sleep(LAST_RANK_DELAY)
    return exit_code


def run_on_server(comm: Communicator, read: Callable[[], T | int]) -> T | int:
    """Return on every rank what `read` returns on rank 0; a collective call.

    An exit code, where `read` returns one, or where argparse exits after it printed
    help or a usage error.
    """
    found: T | int | None = None
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        try:
            found = read()
        except FedAPMError as caught:
            error = caught
        except SystemExit as leaving:
            found = int(leaving.code or 0)
    comm.raise_collectively(error)
    boxed: Any = comm.bcast_object((found,))  # `None` cannot be broadcast
    shared: T | int = boxed[0]
    return shared


def _print_error_once(error: FedAPMError) -> None:
    if launched_rank() == 0:
        print_error(error)
    else:  # srun --kill-on-bad-exit would kill rank 0 before it has printed
        time.sleep(ABORT_PATIENCE)


def print_error(error: Exception, where: str = "") -> None:
    """Print an error in one write, with its traceback where debugging is on.

    What it repeats of names and files cannot control the terminal.
    """
    terminal.stdout().flush()
    trace = ""
    if debug_enabled():
        kept = getattr(error, "trace", "")
        trace = kept or "".join(traceback.format_exception(error))
    log.error("%s%s", where, error, extra={"trace": trace})
