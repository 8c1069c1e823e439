"""What is predicted and how predictions are measured."""
