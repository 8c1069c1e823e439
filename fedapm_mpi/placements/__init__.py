"""Ways to place clients on ranks, one a file. Results do not depend on the choice."""

from fedapm_mpi.placements.base import Placement, client_ranks, placements

__all__ = ["Placement", "client_ranks", "placements"]
