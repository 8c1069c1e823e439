"""RAdam, by torch.optim."""

from torch.optim import RAdam

from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("radam")(from_torch(RAdam, 0.016))
