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
* ``av_digits-film``: of ``benchmarks.paper.data``.

What is there already is left alone.

    python -m benchmarks.evidence.data DIR --from FOLDER... [--only NAME...]
"""

import argparse
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.defaults import data as defaults
from benchmarks.evidence.sets import LABELS
from benchmarks.paper.data import decode, find
from benchmarks.tune_proof import table
from data_prep.pipeline import plan, prepare
from data_prep.sources.base import window_statistics
from data_prep.sources.watch import _read as read_watch

Arrays = dict[str, NDArray[Any]]

TRAIN, TEST, VAL, LEFT_OUT = 0, 1, 2, -1
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
        cut = round((1 - defaults.TEST) * len(series))
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
    pools = [list(rng.permutation(np.flatnonzero(z["y"] == k))) for k in range(10)]
    chosen, clients, split = [], [], []
    for client in range(CIFAR_CLIENTS):
        shares = rng.dirichlet([beta] * 10)
        for part, count in CIFAR_SAMPLES.items():
            for k in rng.choice(10, count, p=shares):
                chosen.append(pools[int(k)].pop())
                clients.append(client)
                split.append(part)
    images = z["x_image"][chosen].astype(np.float64)
    small = images.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4)) / 127.5 - 1
    return {"x_image": small.astype(np.float32), "y": z["y"][chosen],
            "client": np.array(clients), "split": np.array(split)}  # fmt: skip


def with_few_labels(arrays: Arrays) -> Arrays:
    """Return arrays in which each client keeps a part of its training samples."""
    rng, split = np.random.default_rng(0), arrays["split"].copy()
    for client in np.unique(arrays["client"]):
        rows = np.flatnonzero((arrays["client"] == client) & (split == TRAIN))
        kept = int(np.ceil(LABELS * len(rows)))
        split[rng.permutation(rows)[kept:]] = LEFT_OUT
    return {**arrays, "split": split}


class Wanted(NamedTuple):
    """One data set: its raw file, and what reads it."""

    raw: str
    read: Callable[[Path], Arrays]


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
}


def main() -> None:
    """Prepare what is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write")
    parser.add_argument(
        "--from", dest="folders", type=Path, nargs="+", required=True, metavar="FOLDER"
    )
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME")
    args = parser.parse_args()
    for name, wanted in WANTED.items():
        if not any(fnmatchcase(name, pattern) for pattern in args.only):
            continue
        raw = find(args.folders, wanted.raw)
        if raw is None:
            print(f"{name:<16}left out: {wanted.raw} was not found")
            continue
        arrays = wanted.read(raw)
        kept = arrays["split"] != LEFT_OUT
        path = args.directory / "raw" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        stored: Any = {key: value[kept] for key, value in arrays.items()}
        np.savez(path, **stored)
        manifest, _ = prepare(plan("arrays", {}), path, args.directory / name)
        counts = ", ".join(f"{n.sum()} {split}" for split, n in manifest.counts.items())
        print(f"{name:<16}{manifest.num_clients} clients, {counts}", flush=True)


if __name__ == "__main__":
    main()
