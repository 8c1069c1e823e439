"""Common works, the same for everything that is timed: images of noise by label.

W1 has 60 000 images 3 × 32 × 32 in ten classes, given to 20 clients by Dir(0.5) for
each class, four fifths of a client's for training; six take part in a round, with
batches of 50 and three epochs. W2 has 100 clients, 30 of which take part.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.participation import participation
from fedapm_mpi.utils.rng import generator

CLASSES = 10
IMAGES = 60_000
FEWEST = 50
"""Images that each client has at least."""

BATCH, EPOCHS, LR = 50, 3, 0.1
PENALTY = 0.01
"""rho, sigma and the weight decay."""

FRACTION = 0.3
CLIENTS = {"W1": 20, "W2": 100}
SEED = 0


class Part(NamedTuple):
    """A client's rows."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return all images, faint patterns of their class in noise, and the labels."""
    rng = np.random.default_rng(1)
    labels = np.tile(np.arange(CLASSES), IMAGES // CLASSES)
    rng.shuffle(labels)
    patterns = rng.normal(size=(CLASSES, 3, 32, 32)).astype(np.float32)
    x = rng.standard_normal((IMAGES, 3, 32, 32), np.float32)
    x += np.float32(0.3) * patterns[labels]
    return x, labels


def parts(labels: NDArray[np.int64], clients: int) -> list[Part]:
    """Return each client's rows."""
    rng = np.random.default_rng(2)
    while True:
        rows: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
        for label in range(CLASSES):
            own = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(clients, 0.5))
            cuts = (np.cumsum(shares)[:-1] * len(own)).astype(np.int64)
            for part, more in zip(rows, np.split(own, cuts), strict=True):
                part.append(more)
        joined = [rng.permutation(np.concatenate(part)) for part in rows]
        if min(map(len, joined)) >= FEWEST:
            break
    return [Part(*np.split(part, [len(part) * 4 // 5])) for part in joined]


def prepare(directory: Path, work: str) -> Path:
    """Write a work's shards, unless they are there; return their directory."""
    target = directory / work
    if not (target / "manifest.json").exists():
        x, labels = images()
        own = parts(labels, CLIENTS[work])
        table = Table(work, [column("image", x)], labels, [str(k) for k in range(10)])
        splits = {"train": [p.train for p in own], "test": [p.test for p in own]}
        write_dataset(target, table, splits, shards=4)
    return target


def participants(work: str, round_index: int) -> list[int]:
    """Return who takes part in a round, as a run with the same seed draws them."""
    choice = participation.get("random")(fraction=FRACTION)
    rng = generator(SEED, "participants", round_index)
    chosen: list[int] = choice.choose(CLIENTS[work], rng).tolist()
    return chosen


def configuration(data: Path, algorithm: str, rounds: int) -> dict[str, Any]:
    """Return a run's configuration on a work."""
    epochs = {"epochs": EPOCHS}
    options: dict[str, dict[str, Any]] = {
        "fedapm": {
            "units": "weighted",
            "rho": PENALTY,
            "sigma": PENALTY,
            "lr_personal": LR,
            "lr_shared": LR,
            "weight_decay": PENALTY,
            "personal_work": epochs,
            "shared_work": epochs,
        },
        "fedavg": {"lr": LR, "work": epochs},
    }
    split = {"split": {"personal": ["fc*"]}} if algorithm == "fedapm" else {}
    return {
        "data": str(data),
        "model": {"name": "cnn"},
        "algorithm": {"name": algorithm, "batch_size": BATCH, **options[algorithm]},
        **split,
        "participation": {"name": "random", "fraction": FRACTION},
        "rounds": rounds,
        "seed": SEED,
        "evaluation": {"every": 1, "clients": "participants"},
        "checkpoint": {"every": rounds},
    }
