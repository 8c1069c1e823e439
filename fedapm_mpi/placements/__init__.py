"""Placements of clients on ranks, one per file; no result depends on them."""

from fedapm_mpi.placements.base import Placement, client_ranks, placements

__all__ = ["Placement", "client_ranks", "placements"]
