"""Look-alikes of KU-HAR's three archives, with what their description names."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

FOLDERS = {
    "0.Stand": "A",
    "5.Lay": "F",
    "12.Walk-backwards": "M",
    "17.Table-tennis": "U",
}
"""Folders, and the letter in the names of their files."""

SUBJECTS = ("1001", "1002", "1101")


def number_of(folder: str) -> int:
    """Return the number of a folder's activity."""
    return int(folder.split(".")[0])


def values(folder: str, subject: str, rows: int) -> Rows:
    """Return accelerations in m/s^2 and rates in rad/s, (rows, 6)."""
    rng = np.random.default_rng([number_of(folder), int(subject)])
    return rng.normal(size=(rows, 6)) * [3, 2, 1, 0.3, 0.2, 0.1]


def trimmed(
    folder: str,
    subject: str,
    rows: int = 300,
    *,
    start: float = 2.0,
    unit: float = 1.0,
    shorter: Mapping[str, int] | None = None,
) -> Rows:
    """Return a recording of the second archive: both sensors at 100 Hz.

    Parameters
    ----------
    folder, subject
        What its values follow from.
    rows
        Rows of the longer sensor.
    start
        Time of the first row, in seconds.
    unit
        Times a second, 1000 for milliseconds.
    shorter
        Rows of ``acc`` or ``gyro``, after which there are zeros; 0 for no sensor.
    """
    made = np.empty((rows, 8))
    made[:, [0, 4]] = ((start + np.arange(rows) / 100) * unit)[:, None]
    made[:, 1:4], made[:, 5:] = np.hsplit(values(folder, subject, rows), 2)
    for sensor, end in (shorter or {}).items():
        first = {"acc": 0, "gyro": 4}[sensor]
        made[end:, first : first + 4] = 0
    return made


def raw(folder: str, subject: str, rows: int = 300, *, rate: float = 99.0) -> Rows:
    """Return a recording of the first archive: times as a phone gives them."""
    made = trimmed(folder, subject, rows)
    rng = np.random.default_rng([int(subject), rows])
    steps = rng.uniform(0.8, 1.2, (rows, 2)) / rate
    made[:, [0, 4]] = np.cumsum(steps, axis=0)
    return made


def written(file: Path, rows: Rows, *, empty_after: int | None = None) -> Path:
    """Write a csv without header, with five significant digits.

    Parameters
    ----------
    file
        Where it is written; folders are made.
    rows
        Its rows.
    empty_after
        Row from which the gyroscope's cells are empty, as in the first archive.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [[f"{value:.5g}" for value in row] for row in rows]
    for line in lines[len(lines) if empty_after is None else empty_after :]:
        line[4:] = [""] * 4
    file.write_text("".join(",".join(line) + "\n" for line in lines))
    return file


def second(root: Path) -> Path:
    """Write the folder that the second archive unpacks to, all as described."""
    return _each(root, trimmed)


def first(root: Path) -> Path:
    """Write the folder that the first archive unpacks to."""
    return _each(root, raw)


def _each(root: Path, recording: Callable[[str, str], Rows]) -> Path:
    """Write one recording of each activity and subject."""
    for folder, letter in FOLDERS.items():
        for subject in SUBJECTS:
            file = root / folder / f"{subject}_{letter}_1.csv"
            written(file, recording(folder, subject))
    return root


def third(root: Path, rows: int = 3) -> Path:
    """Write the folder of the third archive: 1803 columns, and no subjects."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(5)
    axes = rng.normal(size=(rows, 6 * 300))
    tail = np.array([[k % 18, 300, k + 1] for k in range(rows)])
    path = root / f"KU-HAR_time_domain_subsamples_{rows}x300.csv"
    np.savetxt(path, np.hstack([axes, tail]), delimiter=",", fmt="%.5g")
    return root


def zipped(folder: Path, *, inside: str = "", resource_forks: bool = False) -> Path:
    """Zip a folder's csv files, compressed.

    Parameters
    ----------
    folder
        The folder; the zip lies next to it.
    inside
        Folder in the zip that holds all; the published zip has none.
    resource_forks
        Whether each file has another next to it, as zips of one system have.
    """
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(folder.rglob("*.csv")):
            place = Path(inside) / file.relative_to(folder)
            made.write(file, place)
            if resource_forks:
                fork = Path("__MACOSX") / place.with_name(f"._{place.name}")
                made.writestr(str(fork), b"\x00\x05\x16\x07")
    return path
