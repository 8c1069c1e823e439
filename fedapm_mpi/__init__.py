"""FedAPM over MPI: personalised federated learning by ADMM."""

from . import loading

__version__ = "0.1.0"

loading.watch()
