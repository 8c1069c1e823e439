"""FedAPM over MPI: personalised federated learning by ADMM."""

__version__ = "0.1.0"
