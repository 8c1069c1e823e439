"""Ways to sum the clients' updates over ranks, one a file."""

from fedapm_mpi.aggregators.base import AggregationContext, Aggregator, aggregators

__all__ = ["AggregationContext", "Aggregator", "aggregators"]
