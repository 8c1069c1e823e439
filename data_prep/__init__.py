"""From raw data to shards: sources, partitioners and splits."""
