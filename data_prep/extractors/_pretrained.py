"""Pretrained networks, from a folder or from their library's own cache.

Nothing is downloaded here: on a cluster's nodes there is no internet, and a run must
not depend on what a server gives today.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.extractors.base import needs
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.atomic_io import file_sha256

SIDE, CROP = 256, 224
"""Images are resized to this shorter side, then cropped to this square."""


def _transformers() -> Any:
    try:
        import transformers as library
    except ImportError as error:
        raise needs(error, library="transformers", extra="vision,text") from error
    transformers: Any = library
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def weights_facts(weights: str, *files: str) -> dict[str, str]:
    """Return the SHA-256 of the files of pretrained weights that are there.

    Raises
    ------
    DataError
        If there is no such folder, or the cache does not hold them.
    """
    found = {}
    for file in ("config.json", "model.safetensors", *files):
        path = _file(weights, file)
        if path is not None:
            found[file] = file_sha256(path)
    if not {"config.json", "model.safetensors"} <= found.keys():
        msg = (
            f"weights {weights!r} are not on this machine: name a folder with "
            "config.json and model.safetensors, or fetch them into the library's "
            f"cache where there is internet: hf download {weights}"
        )
        raise DataError(msg)
    return found


def _file(weights: str, name: str) -> Path | None:
    if Path(weights).is_dir():
        path = Path(weights) / name
        return path if path.is_file() else None
    found = _transformers().utils.cached_file(
        weights,
        name,
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
    )
    return Path(found) if found else None


def _load(kind: str, weights: str) -> Any:
    try:
        loader = getattr(_transformers(), kind)
        return loader.from_pretrained(weights, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        msg = f"weights {weights!r} can't be loaded: {error}"
        raise DataError(msg) from error


class ImageNetwork:
    """Features of images: the pooled last layer of an image network.

    Parameters
    ----------
    weights
        Folder, or name in the library's cache.

    Attributes
    ----------
    width
        Numbers per image.
    """

    def __init__(self, weights: str) -> None:
        self._net = _load("AutoModel", weights).eval()
        file = _file(weights, "preprocessor_config.json")
        settings = json.loads(file.read_text("utf-8")) if file else {}
        mean = settings.get("image_mean", [0.5] * 3)
        std = settings.get("image_std", [0.5] * 3)
        self._mean = torch.tensor(mean).view(3, 1, 1)
        self._std = torch.tensor(std).view(3, 1, 1)
        try:
            self.width = self._features(torch.zeros(1, 3, CROP, CROP)).shape[1]
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            msg = f"weights {weights!r} are of no network for images ({error})"
            raise DataError(msg) from error

    def __call__(self, images: list[Any]) -> NDArray[np.float32]:
        """Return the features of PIL images, (n, width)."""
        return self._features(torch.stack([self._prepared(p) for p in images]))

    @torch.inference_mode()
    def _features(self, batch: torch.Tensor) -> NDArray[np.float32]:
        features = self._net(batch).pooler_output.flatten(1)
        return np.ascontiguousarray(features.float().numpy())

    def _prepared(self, image: Any) -> torch.Tensor:
        image = image.convert("RGB")
        scale = SIDE / min(image.size)
        size = [max(SIDE, round(scale * length)) for length in image.size]
        image = image.resize(size)
        left, top = ((length - CROP) // 2 for length in size)
        image = image.crop((left, top, left + CROP, top + CROP))
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (values - self._mean) / self._std


class TextNetwork:
    """Features of texts: the last hidden state of each token, special ones included.

    Parameters
    ----------
    weights
        Folder, or name in the library's cache.
    longest
        Tokens after which a text is cut.

    Attributes
    ----------
    width
        Numbers per token.
    """

    def __init__(self, weights: str, longest: int) -> None:
        self._net = _load("AutoModel", weights).eval()
        self._tokens = _load("AutoTokenizer", weights)
        self._longest = longest
        self.width = self("a").shape[1]

    @torch.inference_mode()
    def __call__(self, text: str) -> NDArray[np.float32]:
        """Return the features of a text's tokens, (tokens, width)."""
        tokens = self._tokens(
            text, return_tensors="pt", truncation=True, max_length=self._longest
        )
        states = self._net(**tokens).last_hidden_state[0]
        return np.ascontiguousarray(states.float().numpy())
