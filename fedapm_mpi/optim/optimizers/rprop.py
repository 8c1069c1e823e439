"""Rprop, by torch.optim."""

from torch.optim import Rprop

from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("rprop")(from_torch(Rprop, 0.001))
