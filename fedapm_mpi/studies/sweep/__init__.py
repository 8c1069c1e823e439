"""Parameter sweeps: the grid of runs and its result table."""
