"""CrisisMMD's tables: those of the official splits, and those of the annotations.

The tables of a split have nine columns: ``event_name``, ``tweet_id``, ``image_id``,
``tweet_text``, ``image``, ``label``, ``label_text``, ``label_image`` and
``label_text_image``. The annotations are one table for each event, with fifteen columns
and no split: labels and their confidence for text and image (``image_info``,
``image_human``, …), ``tweet_text``, ``image_url`` and ``image_path``. An empty label
there says that the question was not asked.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from fedapm_mpi.errors import DataError

Task = Literal["humanitarian", "informative"]
Form = Literal["all", "agreed", "annotations"]

TASKS: tuple[Task, ...] = ("humanitarian", "informative")
FORMS: dict[Form, tuple[str, str]] = {
    "all": ("", "crisismmd_datasplit_all.zip"),
    "agreed": ("agreed_lab_", "crisismmd_datasplit_agreed_label.zip"),
}
"""Suffix of the tables' names and archive of the tables, by form of the splits."""

TABLES = {"train": 0, "test": 1, "dev": 2}
"""The archive's splits, as train, test and val."""

ANNOTATIONS = "_final_data.tsv"
"""End of the name of a table of annotations, after the event."""

EVENT = "event_name"


class Columns(NamedTuple):
    """Names of the columns that are read."""

    tweet: str
    name: str
    text: str
    image: str
    label: str


SPLIT_COLUMNS = Columns("tweet_id", "image_id", "tweet_text", "image", "label_image")
ANNOTATED: dict[Task, Columns] = {
    "humanitarian": SPLIT_COLUMNS._replace(image="image_path", label="image_human"),
    "informative": SPLIT_COLUMNS._replace(image="image_path", label="image_info"),
}


class Row(NamedTuple):
    """One image with its tweet's text, as a table has it."""

    tweet: str
    name: str
    text: str
    image: str
    label: str
    event: str
    split: int | None
    where: str
    """Table, line and column of its label."""

    wrong: str
    """Fault of the row itself, to follow its name; empty without one."""


def read_rows(origin: Path, task: Task, form: Form | None) -> list[Row]:
    """Return the rows of all tables of one form.

    Parameters
    ----------
    origin
        Folder of the unpacked archive; tables are in it or next to it.
    task
        Whose labels are read.
    form
        Which tables; if None, those of all items where they are there, else those of
        agreed labels.

    Raises
    ------
    DataError
        If a table or a column is missing, or a row has too few columns.
    """
    if form == "annotations":
        return [
            row
            for table in _annotations(origin)
            for row in _rows(table, ANNOTATED[task], event=_event(table))
        ]
    tables = _tables(origin, task, form)
    return [
        row
        for name, split in TABLES.items()
        for row in _rows(tables[name], SPLIT_COLUMNS, split=split)
    ]


def _event(table: Path) -> str:
    return table.name.removesuffix(ANNOTATIONS)


def _annotations(origin: Path) -> list[Path]:
    """Return the tables of annotations, one for each event."""
    found = _annotated(origin)
    if not found:
        msg = (
            f"neither in {origin} nor next to it are tables of annotations, such as "
            f"annotations/hurricane_irma{ANNOTATIONS}; --from is the folder that "
            "CrisisMMD_v2.0.tar.gz unpacks to"
        )
        raise DataError(msg)
    return found


def _annotated(origin: Path) -> list[Path]:
    for folder in (origin, origin.parent):
        places = [*folder.glob(f"*{ANNOTATIONS}"), *folder.glob(f"*/*{ANNOTATIONS}")]
        # Archives of one system have files ._NAME, which are no tables.
        found = sorted(path for path in places if path.name[0] != ".")
        if found:
            return found
    return []


def _tables(origin: Path, task: Task, form: Form | None) -> dict[str, Path]:
    """Return the three tables of the splits, all of one form."""
    missing = []
    for name, (more, archive) in FORMS.items():
        if form not in (None, name):
            continue
        found = {}
        lacks = []
        for split in TABLES:
            file = f"task_{task}_text_img_{more}{split}.tsv"
            path = _table(origin, file)
            if path is None:
                lacks.append(f"{file} (it is in {archive})")
            else:
                found[split] = path
        if not lacks:
            return found
        missing.append((len(lacks), lacks[0]))
    # The form of which most tables are there is the one that was meant.
    order = sorted(missing, key=lambda one: one[0])
    wanted = order[:1] if order[0][0] < len(TABLES) else order
    hints = [
        f"; there are tables of another task: set task={other}"
        for other in TASKS
        if other != task and any(_there(origin, other))
    ]
    if not hints and wanted is order and _annotated(origin):
        hints = ["; there are annotations, without splits: set tables=annotations"]
    msg = (
        f"neither in {origin} nor next to it is a {' or a '.join(t for _, t in wanted)}"
        f"; these tables belong to the archive{''.join(hints)}"
    )
    raise DataError(msg)


def _there(origin: Path, task: Task) -> Iterator[bool]:
    """Yield, form by form, whether a task's training table exists."""
    for more, _ in FORMS.values():
        yield _table(origin, f"task_{task}_text_img_{more}train.tsv") is not None


def _table(origin: Path, name: str) -> Path | None:
    for folder in (origin, origin.parent):
        found = sorted([*folder.glob(name), *folder.glob(f"*/{name}")])
        if found:
            return found[0]
    return None


def _rows(
    path: Path, columns: Columns, *, event: str | None = None, split: int | None = None
) -> list[Row]:
    """Return a table's rows; quotes are part of a text, or else are around it."""
    header, lines = _parsed(path, csv.QUOTE_NONE, columns)
    short = _short(header, lines, columns)
    if short is not None:
        # A text that goes over several lines is in quotes.
        header, lines = _parsed(path, csv.QUOTE_MINIMAL, columns)
        if _short(header, lines, columns) is not None:
            msg = (
                f"{path}, line {short}: it has fewer columns than the first line; get "
                "the table again"
            )
            raise DataError(msg)
    places = [header.index(column) for column in columns]
    of_event = header.index(EVENT) if EVENT in header else len(header)
    made = []
    for line, cells in lines:
        tweet, name, text, image, label = (cells[place] for place in places)
        own = event
        if own is None:
            own = "".join(cells[of_event : of_event + 1]).strip()
        where = f"{path}, line {line}, column {columns.label!r}"
        wrong = _wrong(header, cells)
        made.append(Row(tweet, name, text, image, label, own, split, where, wrong))
    return made


def _wrong(header: Sequence[str], cells: Sequence[str]) -> str:
    """Return the fault of a row with more columns than the first line."""
    if any(cell.strip() for cell in cells[len(header) :]):
        return f"has {len(cells)} columns, not {len(header)}"
    return ""


def _parsed(
    path: Path, quoting: Literal[0, 3], columns: Columns
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and each row with its first line."""
    lines = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t", quoting=quoting)
            header = next(reader, [])
            for column in columns:
                if column not in header:
                    msg = f"{path} has no column {column!r}; get the table again"
                    raise DataError(msg)
            line = reader.line_num + 1
            for cells in reader:
                if cells:
                    lines.append((line, cells))
                line = reader.line_num + 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read {path} ({error}); get the table again"
        raise DataError(msg) from error
    return header, lines


def _short(
    header: Sequence[str], lines: Sequence[tuple[int, list[str]]], columns: Columns
) -> int | None:
    """Return the line of the first row that lacks columns."""
    last = max(header.index(column) for column in columns)
    for line, cells in lines:
        if len(cells) <= last:
            return line
    return None
