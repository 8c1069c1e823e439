"""Launchers: programs that start ranks, one per file, and their options."""

from fedapm_mpi.cluster.launchers.base import Job, Launcher, launchers

__all__ = ["Job", "Launcher", "launchers"]
