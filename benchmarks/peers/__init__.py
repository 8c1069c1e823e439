"""Comparison with other trainers of federated learning, each on the same work."""
