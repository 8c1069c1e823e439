"""Federated algorithms, one a file."""

from .base import (
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
