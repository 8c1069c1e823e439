"""Metrics loggers, one a file; see `fedapm_mpi.tracking.base`."""
