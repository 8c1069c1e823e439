"""Search for a configuration on validation parts: space, budget, trials, report."""
