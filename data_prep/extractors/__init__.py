"""Extractors: features of images, audio, video and text by pretrained networks."""

from data_prep.extractors.base import (
    BrokenItem,
    Extractor,
    Items,
    current_options,
    extractors,
)

__all__ = ["BrokenItem", "Extractor", "Items", "current_options", "extractors"]
