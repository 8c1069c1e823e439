"""Features of images, sound, film and text, by pretrained networks, on many ranks."""

from data_prep.extractors.base import BrokenItem, Extractor, Items, extractors

__all__ = ["BrokenItem", "Extractor", "Items", "extractors"]
