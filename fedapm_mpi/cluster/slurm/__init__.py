"""Job scripts for SLURM: templates that a person can read, and what fills them."""
