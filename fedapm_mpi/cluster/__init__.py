"""Launching ranks: site profiles, launchers, SLURM batch scripts, supervision."""
