"""Prepare the data sets of the paper's experiments and of the fair comparison.

Looks in the given folders, and below them, for the raw files

* CIFAR-10: ``cifar-10-python.tar.gz`` or, if there is none, ``cifar10_jpeg.npz``, the
  same images after JPEG compression (needs Pillow),
* ``hapt.npz``, ``av_digits.npz`` and ``watch_dataset.npy``,

and writes one directory for each data set whose raw file is there:

* ``cifar10-published-sN``: all 60 000 images given to 20 overlapping clients, each
  cut 80/20 with one sample lost, as in the authors' code;
* ``cifar10-fair-bB-sN``: the same images in disjoint parts, Dir(B), with a val part;
* ``hapt``, ``av_digits``, ``watch``: natural clients, with a val part. Intervals of
  HAPT that windows were cut from are kept whole; the watch's series are cut in time;
* ``av_digits-film``: sound first, then a picture's 28 rows as a film of as many steps,
  standardised like the sound: what the paper's model for CREMA-D takes;
* ``hapt-missing-client-sN``, ``-sample-sN``, ``-none-sN``: HAPT where half of the
  clients' sensors, of the samples', or none are missing;
* ``regimes-bB``: 48 features of each of the watch's windows, given to 20 clients by
  Dir(B), to study convergence on.

What is there already is left alone.

    python -m benchmarks.paper.data DIR --from FOLDER... [--only NAME...]
"""

import io
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._data import described, find, read_command_line
from data_prep.pipeline import plan, prepare
from data_prep.sources import sources

CLIENTS = 20
PUBLISHED_SEEDS = (4, 5, 6)
FAIR = [(beta, seed) for beta in (0.5, 0.1) for seed in (1, 2, 3)]
REGIMES = (0.5, 0.1)
MISSING = 0.5
"""Probability that a client, or a sample, lacks a sensor."""

SEGMENTS = 8
WATCH_VAL = 0.15
"""Part of each series' windows before the test part that is kept for validating."""

FIFTHS = {"split": "random", "test": 0.2, "val": 0.2}
CEPSTRA = {**FIFTHS, "normalise": "window"}
"""Cepstra of one recording over its time, as is usual in speech recognition."""

FILM = {**CEPSTRA, "inputs": ["mfcc", "image"], "series": ["image"]}


class Wanted(NamedTuple):
    """One data set to prepare."""

    name: str
    raw: str
    """Name of its raw file."""

    values: dict[str, Any]
    """Options for `data_prep.pipeline.plan`."""


def wanted() -> Iterator[Wanted]:
    """Yield the data sets, those that take the longest to train with first."""
    for seed in PUBLISHED_SEEDS:
        values = {
            "clients": CLIENTS,
            "seed": seed,
            "split": "official",
            "partitioner": {"name": "official-dirichlet", "beta": 0.5},
        }
        yield Wanted(f"cifar10-published-s{seed}", "cifar10", values)
    for beta, seed in FAIR:
        values = {
            "clients": CLIENTS,
            "seed": seed,
            "split": "random",
            "test": 0.2,
            "val": 0.1,
            "partitioner": {"name": "dirichlet", "beta": beta, "min_samples": 50},
        }
        yield Wanted(f"cifar10-fair-b{beta}-s{seed}", "cifar10", values)
    by_segment = {**FIFTHS, "group": "segment"}
    yield Wanted("hapt", "hapt", by_segment)
    for kind in ("none", "client", "sample"):
        shift = {"name": "missing", "rate": MISSING, "by": kind}
        shifted = {} if kind == "none" else {"shift": shift}
        for seed in (1, 2, 3):
            values = {**by_segment, "seed": seed, **shifted}
            yield Wanted(f"hapt-missing-{kind}-s{seed}", "hapt", values)
    yield Wanted("av_digits", "av_digits", CEPSTRA)
    yield Wanted("av_digits-film", "av_digits", FILM)
    yield Wanted("watch", "watch", {"split": "own"})
    for beta in REGIMES:
        values = {
            "clients": CLIENTS,
            "split": "random",
            "test": 0.2,
            "partitioner": {"name": "dirichlet", "beta": beta, "min_samples": 20},
        }
        yield Wanted(f"regimes-b{beta}", "features", values)


def raw_file(kind: str, folders: list[Path], scratch: Path) -> tuple[str, Path] | None:
    """Return the source and the raw file of a kind of data set, converted if need be.

    Parameters
    ----------
    kind
        ``Wanted.raw``.
    folders
        Where to look.
    scratch
        Where converted files are kept.
    """
    if kind == "cifar10":
        archive = find(folders, "cifar-10-python.tar.gz")
        if archive:
            return "cifar10", archive
    name, read = CONVERTED.get(kind, (f"{kind}.npz", None))
    path = find(folders, name)
    if path is None:
        return None
    if read is not None:
        path = convert(path, scratch / f"{kind}.npz", read)
    return "arrays", path


def convert(
    raw: Path, target: Path, read: Callable[[Path], dict[str, np.ndarray]]
) -> Path:
    """Return a file of plain arrays, made from a raw file unless it is there."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        arrays: dict[str, Any] = read(raw)
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.rename(target)
    return target


def decode(path: Path) -> dict[str, np.ndarray]:
    """Return images that are stored as JPEG files without their common beginning."""
    try:
        from PIL import Image
    except ImportError:
        msg = f"reading {path} needs Pillow: pip install pillow"
        raise SystemExit(msg) from None
    stored = np.load(path)
    head, body = stored["head"].tobytes(), stored["body"].tobytes()
    stops = stored["offset"].tolist()
    images = [
        np.asarray(Image.open(io.BytesIO(head + body[start:stop])))
        for start, stop in pairwise(stops)
    ]
    kept = {key: stored[key] for key in ("y", "split", "class_names")}
    return {"x_image": np.stack(images), **kept}


def cut_series(path: Path) -> dict[str, np.ndarray]:
    """Return the watch's windows with a val part cut from the end of training.

    The source cuts each series in time: early windows, half overlapping, are for
    training and late ones for testing. Here the last of the early ones become val, and
    the one window that overlaps the first of these is dropped.
    """
    source = sources.get("watch")(path)
    assert source.split is not None
    assert source.groups is not None
    assert source.ids is not None
    split = source.split.copy()
    for group in np.unique(source.groups[split == 0]):
        rows = np.flatnonzero(source.groups == group)
        val = max(1, round(WATCH_VAL * len(rows)))
        split[rows[len(rows) - val :]] = 2
        split[rows[len(rows) - val - 1]] = -1
    kept = np.flatnonzero(split >= 0)
    table = source.table
    return {
        **{f"x_{c.spec.name}": c.fetch(kept) for c in table.columns},
        "y": table.labels[kept],
        "client": np.array(source.id_names)[source.ids[kept]],
        "split": split[kept],
        "class_names": np.array(table.classes),
    }


def segment_means(path: Path) -> dict[str, np.ndarray]:
    """Return the means of eight equal parts of each of the watch's windows."""
    source = sources.get("watch")(path)
    rows = np.arange(len(source.table.labels))
    signals = [c.fetch(rows).astype(np.float64) for c in source.table.columns]
    parts = [x.reshape(len(x), SEGMENTS, -1, x.shape[2]).mean(2) for x in signals]
    features = np.concatenate(parts, axis=2).reshape(len(rows), -1)
    scaled = (features - features.mean(0)) / features.std(0)
    return {
        "x_features": scaled.astype(np.float32),
        "y": source.table.labels,
        "class_names": np.array(source.table.classes),
    }


CONVERTED = {
    "cifar10": ("cifar10_jpeg.npz", decode),
    "watch": ("watch_dataset.npy", cut_series),
    "features": ("watch_dataset.npy", segment_means),
}
"""Kinds whose raw file is not plain arrays yet: its name, and what reads it."""


def main() -> None:
    """Prepare what was asked for."""
    args = read_command_line(__doc__)
    found: dict[str, tuple[str, Path] | None] = {}
    for name, kind, values in wanted():
        if not args.wants(name):
            continue
        if kind not in found:
            found[kind] = raw_file(kind, args.folders, args.directory / "raw")
        raw = found[kind]
        if raw is None:
            print(f"{name:<24}left out: its raw file was not found")
            continue
        source, path = raw
        named = {"name": kind} if source == "arrays" else {}
        manifest, written = prepare(
            plan(source, {**values, **named}), path, args.directory / name
        )
        verb = "written" if written else "there already"
        print(f"{name:<24}{verb}: {described(manifest)}", flush=True)


if __name__ == "__main__":
    main()
