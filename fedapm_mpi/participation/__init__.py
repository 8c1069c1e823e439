"""Participation schemes: the choice of each round's participants, one per file."""

from fedapm_mpi.participation.base import Participation, participation

__all__ = ["Participation", "participation"]
