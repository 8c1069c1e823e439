"""Random streams, addressed by their purpose and not by the rank that draws."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from zlib import crc32

import numpy as np


class Purpose:
    """Purposes of random streams: frozen, since results depend on their spelling."""

    BATCHES: Final = "batches"
    PERSONALIZE: Final = "personalise"
    DROPOUT: Final = "dropout"
    DROPOUT_PERSONALIZE: Final = "dropout personalise"
    DROPOUT_EVALUATE: Final = "dropout evaluate"
    PARTICIPANTS: Final = "participants"
    INITIAL_MODEL: Final = "initial model"
    SCALING_MISFITS: Final = "scaling misfits"
    SCALING_BOOTSTRAP: Final = "scaling bootstrap"
    PARTITION: Final = "partition"
    SPLIT: Final = "split"
    KEPT: Final = "kept"
    NEW_CLIENTS: Final = "new clients"
    MISSING: Final = "missing"
    VERTICAL: Final = "vertical"
    CONCEPT: Final = "concept"
    QUALITY: Final = "quality"
    QUALITY_LEVELS: Final = "quality-levels"
    NOISE: Final = "noise"
    NOISE_LEVELS: Final = "noise-levels"


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Return the generator of one purpose at one address.

    It depends on the seed, the purpose and the key (say, the round and the client)
    and on nothing else: not on the rank, the number of ranks, or what was drawn
    before. So a run can be resumed at any round, on any number of ranks, and every
    client still gets the same numbers.

    Parameters
    ----------
    seed
        Seed of the run, or of the preparation of a data set; not negative.
    purpose
        What the numbers are for: one of `Purpose`, or a text of a plug-in's own.
    *key
        Non-negative integers that address the stream within the purpose.

    Examples
    --------
    >>> first = generator(0, "batches", 3, 17).integers(100, size=3)
    >>> again = generator(0, "batches", 3, 17).integers(100, size=3)
    >>> bool((first == again).all())
    True
    """
    return np.random.default_rng([seed, crc32(purpose.encode()), *key])


def torch_seed(seed: int, purpose: str, *key: int) -> int:
    """Return a seed in [0, 2^63) for torch, addressed like `generator`."""
    return int(generator(seed, purpose, *key).integers(2**63))


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and NumPy, and restore them afterwards.

    For users' code, such as a model's factory, that draws from them.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    seed_globals(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def seed_globals(seed: int) -> None:
    """Seed the global generators of Python and NumPy."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
