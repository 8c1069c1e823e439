"""AdamW, by torch.optim."""

from torch.optim import AdamW

from fedapm_mpi.optim.default_solver import DEFAULT_LR
from fedapm_mpi.optim.optimizers._torch import from_torch
from fedapm_mpi.optim.optimizers.base import optimizers

optimizers.register("adamw")(from_torch(AdamW, DEFAULT_LR))
