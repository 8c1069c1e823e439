"""Adadelta, by torch.optim."""

from torch.optim import Adadelta

from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("adadelta")(from_torch(Adadelta, 1.0))
