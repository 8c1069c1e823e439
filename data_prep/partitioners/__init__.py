"""Ways to give samples to clients, one a file."""

from data_prep.partitioners.base import Parts, Pool, partitioners

__all__ = ["Parts", "Pool", "partitioners"]
