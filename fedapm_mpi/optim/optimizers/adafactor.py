"""Adafactor, by torch.optim."""

from torch.optim import Adafactor

from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("adafactor")(from_torch(Adafactor, 0.03))
