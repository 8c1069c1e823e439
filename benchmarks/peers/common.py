"""Network, data and metric for the other trainers.

It imports nothing of this package: one of them sends a model's file as text.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import TensorDataset


class Net(nn.Module):
    """A plain network for CIFAR-10."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(2048, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.features(x))
        return logits


@cache
def load(folder: str, client: int) -> tuple[TensorDataset, TensorDataset]:
    """Return a client's images and labels, for training and for testing."""
    with np.load(Path(folder, f"{client}.npz")) as arrays:
        train, test = (
            TensorDataset(
                torch.from_numpy(arrays[f"{split}_x"]),
                torch.from_numpy(arrays[f"{split}_y"]),
            )
            for split in ("train", "test")
        )
    return train, test


def accuracy(labels: NDArray[np.int64], logits: NDArray[np.float32]) -> float:
    """Return the share that is right."""
    return float((logits.argmax(1) == labels).mean())
