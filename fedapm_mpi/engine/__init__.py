"""One client's model on one device: objective, gradients, inference."""
