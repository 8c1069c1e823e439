"""Data sets in the layouts in which they are published, one a file."""

from data_prep.sources.base import Source, sources

__all__ = ["Source", "sources"]
