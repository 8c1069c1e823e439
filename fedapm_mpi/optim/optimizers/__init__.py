"""Optimizers of the local phases, one file each."""

from fedapm_mpi.optim.optimizers.base import LocalOptimizer, optimizers

__all__ = ["LocalOptimizer", "optimizers"]
