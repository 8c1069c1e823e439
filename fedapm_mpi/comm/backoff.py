"""How long a rank that waits sleeps between two looks at whether it may go on."""

MAX_POLL_SECONDS = 5e-3
"""Longest sleep, in seconds."""

POLL_FRACTION = 0.02
"""A nap is at most this share of the time already waited, so it costs no more."""


def poll_interval(waited: float) -> float:
    """Return the seconds to sleep after so many seconds of waiting."""
    return min(MAX_POLL_SECONDS, max(50e-6, waited * POLL_FRACTION))
