"""The package beside other trainers of federated learning, each on the same work."""
