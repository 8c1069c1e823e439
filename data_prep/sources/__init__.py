"""Data sets in the layouts in which they are published, one a file."""

from .base import Source, sources

__all__ = ["Source", "sources"]
