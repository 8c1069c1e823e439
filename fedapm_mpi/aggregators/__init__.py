"""Ways to sum the clients' increments over ranks, one a file."""

from fedapm_mpi.aggregators.base import Aggregator, aggregators

__all__ = ["Aggregator", "aggregators"]
