"""Communication between ranks; `mpi` is the only module that imports mpi4py."""

from .base import SERVER, Communicator, Serial

__all__ = ["SERVER", "Communicator", "Serial"]
