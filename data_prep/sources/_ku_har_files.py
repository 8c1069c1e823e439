"""Files of KU-HAR's archives: which are recordings, and what their rows hold.

A recording is ``NUMBER.ACTIVITY/SUBJECT_LETTER_TRIAL.csv``, without a header, with the
time, x, y and z of the accelerometer and then of the gyroscope. In
``2.Trimmed_interpolated_data`` times are 10 ms apart, and zeros fill the end of the
shorter sensor; in ``1.Raw_time_domian_data`` times are as the phone gave them.
``3.Time_domain_subsamples`` is one table, which names no subjects.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.regular_files import check_regular
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value

ARCHIVE = "2.Trimmed_interpolated_data.zip"
COLUMNS = 8
RATE = 100
"""Rows a second."""

LETTERS = "ABCDEFGHIJKLMNOSTU"
"""The letter in a file's name, by the number of its activity."""

FOLDER = re.compile(r"(\d+)\.")
WHOLE = re.compile(r"[123]\.(raw|trimmed|time)_", re.IGNORECASE)
"""Beginning of the name of a folder that holds one of the archives."""

SUBSAMPLES = "time_domain_subsamples"
DIGITS = 5
"""Significant digits of a time in the archive."""


class Recording(NamedTuple):
    """One file: one activity of one subject."""

    name: str
    """ACTIVITY/FILE."""

    activity: int
    subject: str
    file: Path | None
    """Its path, if it is not in the archive."""


def recordings(path: Path) -> list[Recording]:
    """Return all recordings of an archive or a folder, in the order of their names.

    Raises
    ------
    DataError
        If there are none, one names no subject, or one is there in two forms.
    """
    places = _places(path)
    made = []
    seen: dict[tuple[str, str], PurePosixPath] = {}
    for place, file in places.items():
        folder = place.parent.name
        of_activity = FOLDER.match(folder)
        if place.suffix != ".csv" or place.name[0] == "." or not of_activity:
            continue
        if WHOLE.match(folder):
            continue
        first = seen.setdefault((folder, place.name), place)
        if first != place:
            msg = (
                f"{path} holds the recording {folder}/{place.name} twice, as {first} "
                f"and as {place}; give the folder or zip of {Path(ARCHIVE).stem} alone"
            )
            raise DataError(msg)
        name = str(place) if file is None else f"{folder}/{place.name}"
        subject, mark, _ = place.name.partition("_")
        if not mark or not subject.strip():
            msg = f"{path}: {name} names no subject, as 1001_A_1.csv does; rename it"
            raise DataError(msg)
        made.append(Recording(name, int(of_activity[1]), subject, file))
    if not made:
        msg = f"{path} holds no recordings of KU-HAR, such as 0.Stand/1001_A_1.csv"
        if any(SUBSAMPLES in place.name for place in places):
            msg += f"; its subsamples name no subjects: get {ARCHIVE} instead"
        raise DataError(msg)
    return sorted(made)


def other_letters(found: Sequence[Recording]) -> list[Recording]:
    """Return the recordings that another activity's letter names."""
    made = []
    for recording in found:
        letter = PurePosixPath(recording.name).name.split("_")[1]
        known = recording.activity < len(LETTERS) and letter in set(LETTERS)
        if known and letter != LETTERS[recording.activity]:
            made.append(recording)
    return made


def read(path: Path, found: list[Recording]) -> Iterator[NDArray[np.float64] | str]:
    """Yield the rows of each recording, or its fault."""
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            for recording in found:
                try:
                    with archive.open(recording.name) as file:
                        yield rows_of(file)
                except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                    yield f"can't be read ({error})"
        return
    for recording in found:
        assert recording.file is not None
        try:
            check_regular(recording.file)
            with recording.file.open("rb") as file:
                yield rows_of(file)
        except OSError as error:
            yield f"can't be read ({error.strerror})"
        except ValueError as error:
            yield f"can't be read ({error})"


def rows_of(file: IO[bytes]) -> NDArray[np.float64] | str:
    """Return all rows of a csv without header, or its fault."""
    raw = file.read()
    if not raw.strip():
        return "is empty"
    try:
        rows: NDArray[np.float64] = np.loadtxt(io.BytesIO(raw), delimiter=",", ndmin=2)
    except ValueError as error:  # of which UnicodeDecodeError is one
        return _fault(raw) or f"does not hold numbers everywhere ({error})"
    if rows.shape[1] != COLUMNS:
        return f"has {rows.shape[1]} columns, not {COLUMNS}"
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0].tolist()
        value = rows[row, column]
        return f"lacks values (row {row + 1}, column {column + 1} is {value})"
    return rows


def off_the_clock(times: NDArray[np.float64]) -> tuple[int, float] | None:
    """Return the first row that is not where 100 rows a second have it.

    Parameters
    ----------
    times
        ``(n,)``, in seconds or milliseconds, rounded to five digits as in the archive.

    Returns
    -------
    tuple of int and float, or None
        The row, from 0, and its time since the first row in seconds.
    """
    if len(times) < 2:
        return None
    unit = 1000.0 if np.median(np.diff(times)) > 1 else 1.0
    largest = np.abs(times).max() / unit
    place = 10.0 ** (np.floor(np.log10(largest)) - DIGITS + 1) if largest else 0.0
    passed = (times - times[0]) / unit
    wrong = np.abs(passed - np.arange(len(times)) / RATE) > max(2 / RATE, 2 * place)
    if not wrong.any():
        return None
    row = int(np.flatnonzero(wrong)[0])
    return row, float(passed[row])


def _places(path: Path) -> dict[PurePosixPath, Path | None]:
    """Return all files of a zip, or all csv files of a folder."""
    if not path.is_file():
        return {PurePosixPath(f.as_posix()): f for f in sorted(path.rglob("*.csv"))}
    try:
        with zipfile.ZipFile(path) as archive:
            return dict.fromkeys(map(PurePosixPath, archive.namelist()))
    except (OSError, zipfile.BadZipFile) as error:
        msg = f"cannot read {path} ({error}); get {ARCHIVE} again"
        raise DataError(msg) from error


def _fault(raw: bytes) -> str | None:
    """Return the first entry that is no number, or row of other columns."""
    for row, line in enumerate(raw.decode("latin1").split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.split(",")
        for column, cell in enumerate(cells, start=1):
            where = f"row {row}, column {column}"
            if not cell.strip():
                return f"does not hold numbers everywhere ({where} is empty)"
            try:
                float(cell)
            except ValueError:
                what = format_value(cell.strip())
                return f"does not hold numbers everywhere ({where} is {what})"
        if len(cells) != COLUMNS:
            return f"has {len(cells)} columns in row {row}, not {COLUMNS}"
    return None
