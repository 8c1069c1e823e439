"""Schedules of step sizes over the rounds of a run, one file each."""

from fedapm_mpi.optim.schedules.base import Schedule, schedules

__all__ = ["Schedule", "schedules"]
