"""Ways to choose a round's participants, one a file."""

from fedapm_mpi.participation.base import Participation, participation

__all__ = ["Participation", "participation"]
