"""Ways to choose a round's participants, one a file."""

from .base import Participation, participation

__all__ = ["Participation", "participation"]
