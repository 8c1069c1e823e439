"""Run these tests by ``mpiexec -n 3 python -m pytest --with-mpi tests/mpi``.

Every rank runs every test. The first failure on any rank ends the whole job, since the
others would wait for that rank in the next collective for ever. Only rank 0 reports.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from fedapm_mpi.comm.last_words import wait_until_read
from fedapm_mpi.comm.launch_env import launched_size


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    """Silence all ranks but one, and let the time limit work in a blocked MPI call."""
    if not config.getoption("--with-mpi"):
        return
    from mpi4py import MPI

    # A signal cannot interrupt a collective that blocks in C; a thread ends it all.
    config.option.timeout_method = "thread"
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if MPI.COMM_WORLD.rank and reporter:
        reporter._tw._file = open(os.devnull, "w")  # noqa: SIM115, PTH123
    for name in ("cacheprovider", "lfplugin", "nfplugin", "stepwiseplugin"):
        # Ranks would write the same files at once.
        plugin = config.pluginmanager.get_plugin(name)
        if MPI.COMM_WORLD.rank and plugin:
            config.pluginmanager.unregister(plugin)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    """End the job at the first failure, with the rank's traceback."""
    if report.failed and launched_size()[0] > 1:
        from mpi4py import MPI

        rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
        sys.stderr.write(
            f"\nrank {rank} of {size} failed {report.nodeid} ({report.when}):\n"
            f"{report.longreprtext}\n"
        )
        wait_until_read()
        MPI.COMM_WORLD.Abort(1)


class Counted:
    """A communicator that refuses, like an MPI with small counts, a long message."""

    def __init__(self, comm, most):
        self._comm = comm
        self._most = most
        self.lengths = []

    def __getattr__(self, name):
        return getattr(self._comm, name)

    def Bcast(self, buffer, root):
        self._count(len(buffer))
        self._comm.Bcast(buffer, root=root)

    def Reduce(self, sent, found, op, root):
        self._count(len(sent if found is None else found))
        self._comm.Reduce(sent, found, op=op, root=root)

    def Gatherv(self, sent, found, root):
        self._count(sent.size)
        if found is not None:
            self._count(sum(found[1]))  # displacements are counts too
        self._comm.Gatherv(sent, found, root=root)

    def _count(self, elements):
        if elements > self._most:
            msg = f"{elements} elements in one message; at most {self._most} fit"
            raise OverflowError(msg)
        self.lengths.append(elements)


@pytest.fixture
def world():
    """Return the package's communicator of all ranks."""
    from mpi4py import MPI

    from fedapm_mpi.comm.mpi import MPICommunicator

    return MPICommunicator(MPI.COMM_WORLD)


@pytest.fixture
def folder(world):
    """Return a folder for all ranks; pytest's own are one for each, and collide."""
    made = Path(tempfile.mkdtemp()) if world.rank == 0 else None
    found = world.bcast_object(made)
    yield found
    world.barrier()
    if made:
        shutil.rmtree(made)


@pytest.fixture
def limited():
    """Return a function that makes a communicator whose messages have a limit."""
    from mpi4py import MPI

    from fedapm_mpi.comm.mpi import MPICommunicator

    def make(most):
        communicator = MPICommunicator(MPI.COMM_WORLD, piece_elements=most)
        communicator._comm = Counted(communicator._comm, most)
        return communicator

    return make
