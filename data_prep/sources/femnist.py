"""FEMNIST as LEAF's scripts leave it: handwritten characters by writer."""

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
    split by user leaves test writers without training samples, and is refused. A model
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
    read = read_leaf(path, _pictures, _label)
    return Source(
        table=Table(
            dataset="femnist",
            columns=[column("image", read.inputs, scale=1 / 255)],
            labels=read.labels,
            classes=CLASSES,
        ),
        files=read.files,
        ids=read.ids,
        id_names=read.id_names,
        split=read.split,
        default_split=read.default_split,
        warnings=read.warnings,
    )


def _pictures(x: list[Any]) -> NDArray[np.uint8]:
    """Return pictures (n, 1, 28, 28); LEAF has divided bytes by 255."""
    grey = np.array(x, np.float64).reshape(len(x), 1, SIDE, SIDE) * 255
    stored = np.rint(grey)
    # Written so that NaN, of which nothing is true, is refused.
    if not ((np.abs(grey - stored) < 1e-3) & (stored >= 0) & (stored <= 255)).all():
        msg = "values should be bytes divided by 255"
        raise ValueError(msg)
    return stored.astype(np.uint8)


def _label(y: Any) -> int:
    return whole_label(y, len(CLASSES))
