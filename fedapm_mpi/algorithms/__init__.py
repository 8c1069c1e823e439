"""Federated algorithms, one a file."""

from fedapm_mpi.algorithms.base import (
    Algorithm,
    ClientState,
    LocalProblem,
    Round,
    Work,
    algorithms,
    memory_rows,
)

__all__ = [
    "Algorithm",
    "ClientState",
    "LocalProblem",
    "Round",
    "Work",
    "algorithms",
    "memory_rows",
]
