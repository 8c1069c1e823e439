"""Extractors: features of images, audio, video and text by pretrained networks."""

from data_prep.extractors.base import (
    BrokenItem,
    Extractor,
    Items,
    extractors,
)

__all__ = ["BrokenItem", "Extractor", "Items", "extractors"]
