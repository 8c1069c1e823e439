"""ASGD, by torch.optim."""

from torch.optim import ASGD

from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("asgd")(from_torch(ASGD, 0.3))
