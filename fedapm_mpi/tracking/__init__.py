"""What a run writes down: run directory, records, progress, tables."""
