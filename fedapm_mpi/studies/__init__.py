"""Studies over many runs: sweeps and scaling studies."""
