"""Adagrad, by torch.optim."""

from torch.optim import Adagrad

from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("adagrad")(from_torch(Adagrad, 0.01))
