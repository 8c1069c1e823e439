"""Communication between ranks; `mpi` is the only module that imports mpi4py."""

from fedapm_mpi.comm.base import SERVER, Communicator
from fedapm_mpi.comm.serial import Serial

__all__ = ["SERVER", "Communicator", "Serial"]
