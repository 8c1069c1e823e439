"""FedAPM over MPI: personalised federated learning by ADMM."""

from fedapm_mpi.utils import early_interrupt as loading

__version__ = "0.1.0"

loading.watch()
