"""Tests that all ranks run together; each probe is a collective call."""
