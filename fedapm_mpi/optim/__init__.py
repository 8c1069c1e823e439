"""Mathematics of the optimisation: ADMM updates, mini-batches, theory of FedAPM."""
