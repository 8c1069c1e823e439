"""FEMNIST as LEAF's scripts write it: handwritten characters by writer."""

import string
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.sources._leaf import read_leaf, whole_label
from data_prep.sources.base import Source, sources
from fedapm_mpi.data.table import Table, column

CLASSES = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
SIDE = 28


@sources.register("femnist")
def femnist(path: Path) -> Source:
    """Read LEAF's FEMNIST: characters of 28 × 28 by writer, 62 classes.

    Each writer is a client. LEAF's split is kept unless ``split=random``; its
    split by user, where test writers have no training samples, is refused. A model
    sees values from 0 (ink) to 1.

    Split: LEAF's own where it has split the set.

    Parameters
    ----------
    path
        LEAF's ``data/femnist``, its ``data`` with ``train`` and ``test``, or a folder
        of JSON files that LEAF has not split.

    References
    ----------
    Caldas et al. (2018), LEAF: a benchmark for federated settings, arXiv:1812.01097.
    """
    read = read_leaf(path, _images, _label)
    return read.as_source(
        Table(
            dataset="femnist",
            columns=[column("image", read.inputs, scale=1 / 255)],
            labels=read.labels,
            classes=CLASSES,
        )
    )


def _images(x: list[Any]) -> NDArray[np.uint8]:
    """Return images (n, 1, 28, 28); LEAF has divided bytes by 255."""
    grey = np.array(x, np.float64).reshape(len(x), 1, SIDE, SIDE) * 255
    stored = np.rint(grey)
    # In this form, NaN is refused: no comparison with it is true.
    if not ((np.abs(grey - stored) < 1e-3) & (stored >= 0) & (stored <= 255)).all():
        msg = "values must be bytes divided by 255"
        raise ValueError(msg)
    return stored.astype(np.uint8)


def _label(y: Any) -> int:
    return whole_label(y, len(CLASSES))
