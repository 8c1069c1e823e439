"""Ways to sum the clients' increments over ranks, one a file."""

from fedapm_mpi.aggregators.base import Reduction, reductions

__all__ = ["Reduction", "reductions"]
