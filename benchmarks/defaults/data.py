"""Small data sets of several kinds, for the study of defaults.

Looks in the given folders, and below them, for the raw files ``watch_dataset.npy``,
``hapt.npz``, ``av_digits.npz``, ``heart.csv``, ``star.csv`` and ``cifar10_jpeg.npz``,
and writes one directory for each data set whose raw file is there:

* ``watch``: 20 arms, seven statistics a channel of each window, cut in time;
* ``hapt``: 30 people, the same statistics, a third of the training windows;
* ``digits``: 30 people, a written digit at 14 × 14 and statistics of a spoken one;
* ``heart``: 4 hospitals, a table with missing values;
* ``star``: 60 schools, a table; pupils on one side of the split;
* ``har``: the windows of ``watch`` themselves, for the network of the paper;
* ``cifar-b0.3`` and ``cifar-b5``: 16 clients of 200 images at 16 × 16, Dir(β).

    python -m benchmarks.defaults.data DIR --from FOLDER... [--only NAME...]
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._data import TEST, TRAIN, Arrays, Wanted, images_of_clients, write_all
from benchmarks.paper.data import decode
from data_prep.sources import sources
from data_prep.sources.base import window_statistics
from data_prep.sources.watch import _read as read_watch

WINDOW, STEP = 128, 64
TESTED = 0.2
"""Part of the samples that are kept for testing."""

STAR_PUPILS = 62
"""Training rows of a school."""

CIFAR_CLIENTS = 16
CIFAR_SAMPLES = {TRAIN: 200, TEST: 100}
"""Images of each client."""


def standardised(x: NDArray[Any], train: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return columns scaled by the training samples of all clients."""
    scale = x[train].std(0)
    scaled: NDArray[np.float64] = (x - x[train].mean(0)) / np.where(scale > 0, scale, 1)
    return scaled.astype(np.float32)


def watch(path: Path) -> Arrays:
    """Return windows of both parts of every series, late ones for testing."""
    _, data = read_watch(path)
    features, labels, clients, split = [], [], [], []
    for k, series in enumerate(data["X"]):
        series = np.asarray(series, np.float64)
        cut = round((1 - TESTED) * len(series))
        for test, part in enumerate((series[:cut], series[cut:])):
            starts = range(0, len(part) - WINDOW + 1, STEP)
            windows = np.stack([part[at : at + WINDOW] for at in starts])
            features.append(window_statistics(windows))
            labels += [int(data["y"][k])] * len(windows)
            arm = f"{data['subject'][k]}-{data['side'][k]}"
            clients += [arm] * len(windows)
            split += [test] * len(windows)
    part = np.array(split)
    x = standardised(np.concatenate(features), part == 0)
    return {"x_features": x, "y": np.array(labels), "client": np.array(clients),
            "split": part}  # fmt: skip


def har(path: Path) -> Arrays:
    """Return the windows themselves, as the package's own source cuts them."""
    source = sources.get("watch")(path)
    assert source.split is not None
    assert source.ids is not None
    kept = np.flatnonzero(source.split >= 0)
    table = source.table
    return {
        **{f"x_{one.spec.name}": one.fetch(kept) for one in table.columns},
        "y": table.labels[kept],
        "client": np.array(source.id_names)[source.ids[kept]],
        "split": source.split[kept],
    }


def hapt(path: Path) -> Arrays:
    """Return statistics of windows; whole intervals are kept for testing."""
    z = np.load(path)
    acc, gyro = z["x_acc"] * z["acc_scale"], z["x_gyro"] * z["gyro_scale"]
    rng = np.random.default_rng(0)
    tested = rng.random(int(z["segment"].max()) + 1) < TESTED
    split = tested[z["segment"]].astype(int)
    kept = (split == 1) | (rng.random(len(split)) < 1 / 3)
    x = np.concatenate([window_statistics(acc), window_statistics(gyro)], axis=1)
    return {"x_features": standardised(x, split == 0)[kept], "y": z["y"][kept],
            "client": z["client"][kept], "split": split[kept]}  # fmt: skip


def digits(path: Path) -> Arrays:
    """Return images of half the width, and mean and deviation of each cepstrum."""
    z = np.load(path)
    image = z["x_image"].reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
    sound = z["x_mfcc"].astype(np.float64)
    inside = np.arange(sound.shape[1]) < z["length"][:, None]
    heard = [s[i] for s, i in zip(sound, inside, strict=True)]
    mfcc = np.stack([np.concatenate([s.mean(0), s.std(0)]) for s in heard])
    rng = np.random.default_rng(0)
    split = np.zeros(len(image), int)
    for client in np.unique(z["client"]):
        rows = rng.permutation(np.flatnonzero(z["client"] == client))
        split[rows[: round(TESTED * len(rows))]] = 1
    x = np.concatenate([image / 255, standardised(mfcc, split == 0)], axis=1)
    return {"x_features": x.astype(np.float32), "y": z["y"], "client": z["client"],
            "split": split}  # fmt: skip


def table(
    path: Path, client: str, label: str, leave_out: tuple[str, ...]
) -> tuple[NDArray[np.float64], list[dict[str, str]]]:
    """Return the columns of a table as numbers, and its rows as they are.

    Columns of texts become one column for each value. A missing number is the
    column's mean, with a column that says so.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = []
    for name in rows[0]:
        if name in (client, label, *leave_out):
            continue
        values = [row[name] for row in rows]
        try:
            numbers = np.array([float(one) if one else np.nan for one in values])
        except ValueError:
            columns += [np.array([one == v for one in values]) for v in set(values)]
            continue
        missing = np.isnan(numbers)
        columns.append(np.where(missing, np.nanmean(numbers), numbers))
        columns += [missing] if missing.any() else []
    columns.sort(key=lambda column: column.tobytes())  # a set has no order
    return np.stack(columns, axis=1).astype(np.float64), rows


def heart(path: Path) -> Arrays:
    """Return patients; the label is whether anything was found."""
    x, rows = table(path, "hospital", "num", ())
    split = (np.random.default_rng(0).random(len(rows)) < TESTED).astype(int)
    y = np.array([int(row["num"]) > 0 for row in rows]).astype(int)
    hospital = np.array([row["hospital"] for row in rows])
    return {"x_features": standardised(x, split == 0), "y": y, "client": hospital,
            "split": split}  # fmt: skip


def star(path: Path) -> Arrays:
    """Return rows of pupils, each pupil on one side of the split."""
    hidden = ("id", "read", "math")
    x, rows = table(path, "sch", "above_median", hidden)
    rng = np.random.default_rng(0)
    tested = {one: rng.random() < TESTED for one in sorted({row["id"] for row in rows})}
    split = np.array([int(tested[row["id"]]) for row in rows])
    school = np.array([row["sch"] for row in rows])
    kept = split == 1
    for one in np.unique(school):
        own = rng.permutation(np.flatnonzero((school == one) & (split == 0)))
        kept[own[:STAR_PUPILS]] = True
    y = np.array([row["above_median"] == "yes" for row in rows]).astype(int)
    return {"x_features": standardised(x, split == 0)[kept], "y": y[kept],
            "client": school[kept], "split": split[kept]}  # fmt: skip


def cifar(path: Path, beta: float) -> Arrays:
    """Return images at half the width, labels of each client drawn from Dir(β)."""
    z, rng = decode(path), np.random.default_rng(0)
    pools = {
        (k, part): list(
            rng.permutation(np.flatnonzero((z["y"] == k) & (z["split"] == part)))
        )
        for k in range(10)
        for part in CIFAR_SAMPLES
    }
    return images_of_clients(z, beta, CIFAR_CLIENTS, CIFAR_SAMPLES, pools, rng)


WANTED = {
    "heart": Wanted("heart.csv", heart),
    "watch": Wanted("watch_dataset.npy", watch),
    "digits": Wanted("av_digits.npz", digits),
    "hapt": Wanted("hapt.npz", hapt),
    "star": Wanted("star.csv", star),
    "har": Wanted("watch_dataset.npy", har),
    "cifar-b0.3": Wanted("cifar10_jpeg.npz", lambda path: cifar(path, 0.3)),
    "cifar-b5": Wanted("cifar10_jpeg.npz", lambda path: cifar(path, 5.0)),
}


def main() -> None:
    """Prepare what is not there yet."""
    write_all(__doc__, WANTED)


if __name__ == "__main__":
    main()
