"""Optimization: local and server steps, ADMM updates, mini-batches, FedAPM's theory."""
