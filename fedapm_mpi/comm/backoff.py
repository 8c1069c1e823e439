"""How long a rank that waits sleeps between two looks at whether it may go on."""

LONGEST = 5e-3
"""Longest sleep, in seconds."""

SHARE = 0.02
"""A nap is at most this share of the time already waited, so it costs no more."""


def nap(waited: float) -> float:
    """Return the seconds to sleep after so many seconds of waiting."""
    return min(LONGEST, max(50e-6, waited * SHARE))
