"""How long a waiting rank sleeps between two polls."""

MAX_POLL_SECONDS = 5e-3
"""Longest sleep, in seconds."""

POLL_FRACTION = 0.02
"""Longest sleep as a share of the time already waited, which bounds the delay."""


def poll_interval(waited: float) -> float:
    """Return the seconds to sleep after `waited` seconds."""
    return min(MAX_POLL_SECONDS, max(50e-6, waited * POLL_FRACTION))
