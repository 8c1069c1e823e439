"""Programs that start ranks, one a file: how each is told what we want."""

from fedapm_mpi.cluster.launchers.base import Job, Launcher, launchers

__all__ = ["Job", "Launcher", "launchers"]
