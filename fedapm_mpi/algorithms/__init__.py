"""Federated algorithms, one per file."""

from fedapm_mpi.algorithms.base import (
    Algorithm,
    ClientState,
    LocalBudget,
    Objective,
    RoundInfo,
    adapt,
    algorithms,
)

__all__ = [
    "Algorithm",
    "ClientState",
    "LocalBudget",
    "Objective",
    "RoundInfo",
    "adapt",
    "algorithms",
]
