"""Prepare the data sets of the study, each with a val part.

Looks in the given folders, and below them, for the raw files ``watch_dataset.npy``,
``hapt.npz``, ``av_digits.npz``, ``star.csv`` and ``cifar10_jpeg.npz``, and writes one
directory for each data set whose raw file is there:

* ``watch``: 20 arms, seven statistics a channel of each window, cut in time; the last
  sixth of the windows before the test part is val;
* ``hapt``: 30 people, the same statistics, a third of the windows; intervals that
  windows were cut from are whole on one side of each split;
* ``av_digits``: 30 people, an image at 14 × 14 and statistics of a sound;
* ``watch-few``, ``hapt-few``, ``av_digits-few``: the same clients, val and test parts,
  with a tenth of each client's training samples, rounded up;
* ``star_schools``: 60 schools, the pupils of one grade, a table;
* ``cifar-b0.5``, ``cifar-b0.1``: 20 clients, 400 training images each at 16 × 16, whose
  labels are drawn from Dir(β); val and test parts have the same labels;
* ``av_digits-film``: sound, then a picture's rows as a film; for the paper's network.

What is there already is left alone.

    python -m benchmarks.evidence.data DIR --from FOLDER... [--only NAME...]
"""

from pathlib import Path

import numpy as np

from benchmarks._data import (
    LEFT_OUT,
    TEST,
    TRAIN,
    VAL,
    Arrays,
    Wanted,
    images_of_clients,
    write_all,
)
from benchmarks.defaults import data as defaults
from benchmarks.evidence.sets import LABELS
from benchmarks.paper.data import FILM, decode
from benchmarks.tune_proof import table
from data_prep.sources.base import window_statistics
from data_prep.sources.watch import _read as read_watch

WATCH_VAL = 1 / 6
"""Part of the windows of a series before its test part."""

CIFAR_CLIENTS = 20
CIFAR_SAMPLES = {TRAIN: 400, TEST: 200, VAL: 100}
"""Images of each client."""


def watch(path: Path) -> Arrays:
    """Return windows of every series: early ones to train, late ones to test on.

    The window that overlaps the first of the val part is dropped.
    """
    arrays = defaults.watch(path)
    split = arrays["split"].copy()
    _, data = read_watch(path)
    start = 0
    for series in data["X"]:
        cut = round((1 - defaults.TESTED) * len(series))
        lengths = (cut, len(series) - cut)
        counts = [max(0, (n - defaults.WINDOW) // defaults.STEP + 1) for n in lengths]
        val = max(1, round(WATCH_VAL * counts[0]))
        split[start + counts[0] - val : start + counts[0]] = VAL
        split[start + counts[0] - val - 1] = LEFT_OUT
        start += sum(counts)
    assert start == len(split)
    return {**arrays, "split": split}


def hapt(path: Path) -> Arrays:
    """Return statistics of windows; whole intervals are kept for val and testing."""
    z = np.load(path)
    acc, gyro = z["x_acc"] * z["acc_scale"], z["x_gyro"] * z["gyro_scale"]
    rng = np.random.default_rng(0)
    part = rng.choice(
        [TRAIN, TEST, VAL], int(z["segment"].max()) + 1, p=[0.6, 0.2, 0.2]
    )
    split = part[z["segment"]]
    # Windows overlap by half, so a third of them holds most of what there is.
    kept = (split == TEST) | (rng.random(len(split)) < 1 / 3)
    x = np.concatenate([window_statistics(acc), window_statistics(gyro)], axis=1)
    return {"x_features": defaults.standardised(x, split == TRAIN)[kept],
            "y": z["y"][kept], "client": z["client"][kept],
            "split": split[kept]}  # fmt: skip


def av_digits(path: Path) -> Arrays:
    """Return pairs of an image and a sound, a fifth of the training part for val."""
    arrays = defaults.digits(path)
    rng, split = np.random.default_rng(1), arrays["split"].copy()
    for client in np.unique(arrays["client"]):
        rows = np.flatnonzero((arrays["client"] == client) & (split == TRAIN))
        split[rng.permutation(rows)[: round(len(rows) / 4)]] = VAL
    return {**arrays, "split": split}


def star(path: Path) -> Arrays:
    """Return the pupils of one grade."""
    arrays: Arrays = table(path)
    rng, split = np.random.default_rng(0), np.zeros(len(arrays["y"]), int)
    for client in np.unique(arrays["client"]):
        rows = rng.permutation(np.flatnonzero(arrays["client"] == client))
        fifth = round(len(rows) / 5)
        split[rows[:fifth]], split[rows[fifth : 2 * fifth]] = TEST, VAL
    return {**arrays, "split": split}


def cifar(path: Path, beta: float) -> Arrays:
    """Return images at half the width, labels of each client drawn from Dir(β)."""
    z = decode(path)
    rng = np.random.default_rng(0)
    by_label = [list(rng.permutation(np.flatnonzero(z["y"] == k))) for k in range(10)]
    pools = {(k, part): by_label[k] for k in range(10) for part in CIFAR_SAMPLES}
    return images_of_clients(z, beta, CIFAR_CLIENTS, CIFAR_SAMPLES, pools, rng)


def with_few_labels(arrays: Arrays) -> Arrays:
    """Return arrays in which each client keeps a part of its training samples."""
    rng, split = np.random.default_rng(0), arrays["split"].copy()
    for client in np.unique(arrays["client"]):
        rows = np.flatnonzero((arrays["client"] == client) & (split == TRAIN))
        kept = int(np.ceil(LABELS * len(rows)))
        split[rng.permutation(rows)[kept:]] = LEFT_OUT
    return {**arrays, "split": split}


WANTED = {
    "watch": Wanted("watch_dataset.npy", watch),
    "watch-few": Wanted("watch_dataset.npy", lambda p: with_few_labels(watch(p))),
    "hapt": Wanted("hapt.npz", hapt),
    "hapt-few": Wanted("hapt.npz", lambda p: with_few_labels(hapt(p))),
    "av_digits": Wanted("av_digits.npz", av_digits),
    "av_digits-few": Wanted("av_digits.npz", lambda p: with_few_labels(av_digits(p))),
    "star_schools": Wanted("star.csv", star),
    "cifar-b0.5": Wanted("cifar10_jpeg.npz", lambda path: cifar(path, 0.5)),
    "cifar-b0.1": Wanted("cifar10_jpeg.npz", lambda path: cifar(path, 0.1)),
    "av_digits-film": Wanted("av_digits.npz", values=FILM),
}


def main() -> None:
    """Prepare what is not there yet."""
    write_all(__doc__, WANTED)


if __name__ == "__main__":
    main()
