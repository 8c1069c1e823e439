"""Helpers that know nothing of the package's other parts; no torch, no MPI."""
