"""Client states in memory, checkpoints on disk, digests."""
