"""The distributed training run: round loop, server, clients, evaluation."""
