"""Adamax, by torch.optim."""

from torch.optim import Adamax

from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("adamax")(from_torch(Adamax, 0.008))
