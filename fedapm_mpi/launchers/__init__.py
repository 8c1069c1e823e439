"""Programs that start ranks, one a file: how each is told what we want."""

from .base import Job, Launcher, launchers

__all__ = ["Job", "Launcher", "launchers"]
