"""The scaling study: how fast rounds are on more ranks, and why."""
