"""A rank whose launcher was killed must not wait for the others for ever."""

import os
import subprocess
import sys

import pytest

WAITING = """
import os, time
from mpi4py import MPI
from fedapm_mpi.comm.mpi import MPICommunicator

class Never:
    def Test(self):
        return False

communicator = MPICommunicator(MPI.COMM_WORLD)  # which notes its parent
print("ready", flush=True)
communicator._wait_polling(Never())
"""


def test_a_rank_leaves_when_its_launcher_dies():
    pytest.importorskip("mpi4py")
    shell = f"exec 3>&1; {sys.executable} -c '{WAITING}' 2>&3; true"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PMI")}
    launcher = subprocess.Popen(
        ["sh", "-c", shell], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert launcher.stdout is not None
    with launcher.stdout as output:
        assert output.readline() == "ready\n"
        launcher.kill()
        launcher.wait()
        # The pipe ends only when the orphan has left too.
        assert "the launcher is gone" in output.read()
