"""KU-HAR's trimmed and interpolated recordings: a phone at the waist, 18 activities.

Among the 1945 recordings of the archive some lack a sensor, and some are copies of
others, even of other subjects'. After the end of the shorter sensor the archive has
zeros. Rows are 10 ms apart.

Sikder and Nahid (2021), KU-HAR: an open dataset for heterogeneous human activity
recognition, Pattern Recognition Letters 146.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.download import Remote
from data_prep.sources._ku_har_files import (
    ARCHIVE,
    COLUMNS,
    RATE,
    Recording,
    off_the_clock,
    other_letters,
    read,
    recordings,
)
from data_prep.sources.base import Source, sources, window_scores
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.errors import DataError

REMOTE = Remote(
    "https://data.mendeley.com/public-files/datasets/45f952y38r/files/"
    "49c6120b-59fd-466c-97da-35d53a4be595/file_downloaded",
    ARCHIVE,
    "9fe5d0052f2f1d6711afac42ee4badd968116afa8ba4b8ba591f4fdd771c2ec2",
)
NUMBER = {
    0: "Stand", 1: "Sit", 2: "Talk-sit", 3: "Talk-stand", 4: "Stand-sit", 5: "Lay",
    6: "Lay-stand", 7: "Pick", 8: "Jump", 9: "Push-up", 10: "Sit-up", 11: "Walk",
    12: "Walk-backward", 13: "Walk-circle", 14: "Run", 15: "Stair-up",
    16: "Stair-down", 17: "Table-tennis",
}  # fmt: skip
"""Activities by the number that a folder's name begins with."""

PAPER = (0, 1, 11, 5, 8, 14, 15, 16)
"""The eight of the FedAPM paper, in the order of its labels."""

WINDOW = 128
ACC, GYRO = slice(1, 4), slice(5, 8)
"""Columns; 0 and 4 are the times of the two sensors."""
SENSORS = {"accelerometer": slice(0, 4), "gyroscope": slice(4, 8)}
"""The same with the times."""


@dataclass(frozen=True)
class Cut:
    """The windows of a recording, or its fault."""

    recording: Recording
    windows: NDArray[np.float64]
    """``(n, steps, 8)``."""

    digest: bytes = b""
    """Hash of all its rows."""

    wrong: str = ""
    """Description of its fault, to follow its name; empty without one."""

    late: str = ""
    """Which of its times is not where 100 rows a second have it; empty if none."""


@sources.register("ku-har")
def ku_har(
    path: Path,
    *,
    classes: Literal[8, 18] = 18,
    steps: Literal[128, 64] = 128,
    group: Literal["recording", "none"] = "recording",
    leave_out: tuple[str, ...] = (),
    clean: bool = True,
    skip_broken: bool = False,
) -> Source:
    """Read KU-HAR's recordings in windows of 1.28 s: 89 people, 8 or 18 activities.

    Each subject is a client. Each axis of each window is standardised. A window has the
    inputs ``acc`` and ``gyro``.

    Split: random; the data set has none of its own.

    Parameters
    ----------
    path
        ``2.Trimmed_interpolated_data.zip``, or the folder with ``0.Stand`` etc.
    classes
        18, or the 8 of the FedAPM paper.
    steps
        128 at 100 Hz, or 64: every second of the first 128 of every 256 rows.
    group
        Whether the windows of a recording stay together in training or test.
    leave_out
        Subjects to leave out, in the paper's code 1101.
    clean
        Whether recordings end with their shorter sensor and those without one, and
        copies, are broken; the paper's code uses all as they are.
    skip_broken
        Whether to leave out broken recordings; the manifest names them.

    Raises
    ------
    DataError
        If there are no recordings, one is broken, or most are not at 100 Hz.
    """
    wanted = PAPER if classes == 8 else tuple(NUMBER)
    found = _asked_for(path, wanted, leave_out)
    cuts, broken = _cuts(path, found, steps, clean=clean, skip_broken=skip_broken)
    kept = [cut.recording for cut in cuts for _ in cut.windows]
    subjects, ids = np.unique([r.subject for r in kept], return_inverse=True)
    _, numbers = np.unique([r.name for r in kept], return_inverse=True)
    return Source(
        table=_table(cuts, kept, wanted),
        files=(path,) if path.is_file() else tuple(r.file for r in found if r.file),
        ids=ids,
        id_names=tuple(subjects.tolist()),
        groups=numbers if group == "recording" else None,
        skipped=tuple(cut.recording.name for cut in broken),
        warnings=(*_misnamed(found), *_off_rate(path, cuts)),
    )


def _asked_for(
    path: Path, wanted: Sequence[int], leave_out: Sequence[str]
) -> list[Recording]:
    """Return the recordings of the activities and subjects that are asked for."""
    found = [r for r in recordings(path) if r.subject not in leave_out]
    found = [r for r in found if r.activity in wanted]
    if not found:
        msg = (
            f"{path} holds no recordings of the activities that are asked for, or only "
            "those of subjects in leave_out; set classes=18 or leave out fewer"
        )
        raise DataError(msg)
    return found


def _misnamed(found: Sequence[Recording]) -> tuple[str, ...]:
    """Return a sentence on files with another activity's letter, if there are any."""
    others = other_letters(found)
    if not others:
        return ()
    more = f"{len(others)} of {len(found)} recordings have the letter of another"
    return (
        f"{more} activity in their name, the first is {others[0].name}: the folder "
        "says what the activity is",
    )


def _off_rate(path: Path, cuts: Sequence[Cut]) -> tuple[str, ...]:
    """Return a sentence on recordings that are not at 100 Hz, if there are any.

    Raises
    ------
    DataError
        If most are not, as in the archive of raw recordings.
    """
    late = [cut for cut in cuts if cut.late]
    if not late:
        return ()
    what = (
        f"{late[0].recording.name} {late[0].late} ({len(late)} of {len(cuts)} "
        f"recordings are not at {RATE} Hz)"
    )
    if 2 * len(late) <= len(cuts):
        return (f"{path}: {what}; their rows are taken as if they were",)
    msg = f"{path}: {what}; give {ARCHIVE}, which is, not the raw recordings"
    raise DataError(msg)


def _table(
    cuts: Sequence[Cut], kept: Sequence[Recording], wanted: Sequence[int]
) -> Table:
    """Return the windows and their labels."""
    x = np.concatenate([cut.windows for cut in cuts])
    return Table(
        dataset="ku-har",
        columns=[
            column("acc", window_scores(x[..., ACC])),
            column("gyro", window_scores(x[..., GYRO])),
        ],
        labels=np.array([wanted.index(r.activity) for r in kept], np.int64),
        classes=tuple(NUMBER[number] for number in wanted),
    )


def _cuts(
    path: Path,
    found: list[Recording],
    steps: int,
    *,
    clean: bool,
    skip_broken: bool,
) -> tuple[list[Cut], list[Cut]]:
    """Return the usable and the broken recordings, cut into windows."""
    cuts = [
        _cut(recording, rows, steps, clean=clean)
        for recording, rows in zip(found, read(path, found), strict=True)
    ]
    if clean:
        cuts = _without_copies(cuts)
    broken = [cut for cut in cuts if cut.wrong]
    if broken and not skip_broken:
        more = f" ({len(broken)} recordings are broken)" if len(broken) > 1 else ""
        msg = (
            f"{path}: {broken[0].recording.name} {broken[0].wrong}{more}; leave them "
            "out with skip_broken=true"
        )
        raise DataError(msg)
    usable = [cut for cut in cuts if not cut.wrong]
    if not any(len(cut.windows) for cut in usable):
        msg = f"{path}: no recording is long enough for a window"
        raise DataError(msg)
    return usable, broken


def _cut(
    recording: Recording, rows: NDArray[np.float64] | str, steps: int, *, clean: bool
) -> Cut:
    """Cut a recording into windows, if clean up to where its shorter sensor ends.

    `rows` may say what is wrong in their place.
    """
    if isinstance(rows, str):
        return Cut(recording, np.empty((0, steps, COLUMNS)), wrong=rows)
    digest = hashlib.sha256(rows.tobytes()).digest()
    if not clean:
        return Cut(recording, _windows(rows, steps), digest)
    ends = {name: _end(rows[:, part]) for name, part in SENSORS.items()}
    wrong = next((f"has no {name}" for name, end in ends.items() if not end), "")
    windows = _windows(rows[: min(ends.values())], steps)
    late = "" if wrong else _late(rows, ends)
    return Cut(recording, windows, digest, wrong, late)


def _late(rows: NDArray[np.float64], ends: Mapping[str, int]) -> str:
    """Return the first row whose time is not that of 100 Hz; empty if all are."""
    for name, part in SENSORS.items():
        off = off_the_clock(rows[: ends[name], part.start])
        if off is not None:
            row, passed = off
            return (
                f"has in row {row + 1}, column {part.start + 1} the {name}'s time "
                f"{passed:.3f} s after its first, not {row / RATE:.3f} s"
            )
    return ""


def _end(values: NDArray[np.float64]) -> int:
    """Return the number of rows without those at the end that are all zeros."""
    filled = np.flatnonzero(values.any(axis=1))
    return int(filled[-1]) + 1 if filled.size else 0


def _without_copies(cuts: Sequence[Cut]) -> list[Cut]:
    """Mark copies of earlier recordings, and of other subjects' recordings.

    The subject of the latter is unknown, so no copy of it is used.
    """
    same: dict[bytes, list[Recording]] = {}
    for cut in cuts:
        if not cut.wrong:
            same.setdefault(cut.digest, []).append(cut.recording)
    made = []
    for cut in cuts:
        recording = cut.recording
        copies = same.get(cut.digest, [recording])
        others = [r for r in copies if r.subject != recording.subject]
        other = others[0] if others else copies[0]
        if other is not recording:
            cut = replace(cut, wrong=f"is the same as {other.name}")
        made.append(cut)
    return made


def _windows(rows: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Return the windows of a recording, ``(n, steps, 8)``."""
    if steps == WINDOW:
        starts = np.arange(len(rows) // WINDOW) * WINDOW
        inside = np.arange(WINDOW)
    else:
        starts = np.arange(len(rows[::2]) // WINDOW) * 2 * WINDOW
        inside = np.arange(0, WINDOW, 2)
    cut: NDArray[np.float64] = rows[starts[:, None] + inside]
    return cut
