"""Federated algorithms, one a file."""

from fedapm_mpi.algorithms.base import (
    Algorithm,
    ClientState,
    LocalBudget,
    Objective,
    RoundInfo,
    algorithms,
    memory_rows,
)

__all__ = [
    "Algorithm",
    "ClientState",
    "LocalBudget",
    "Objective",
    "RoundInfo",
    "algorithms",
    "memory_rows",
]
