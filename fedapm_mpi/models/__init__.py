"""Models, one per file; a user's own is named ``module:factory``."""

from fedapm_mpi.models.base import InputSpec, ModelFactory, models

__all__ = ["InputSpec", "ModelFactory", "models"]
