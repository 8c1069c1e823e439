"""RMSprop, by torch.optim."""

from torch.optim import RMSprop

from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("rmsprop")(from_torch(RMSprop, 0.004))
