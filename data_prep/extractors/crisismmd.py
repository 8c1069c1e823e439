"""CrisisMMD v2.0: tweets of disasters, each a text and an image."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from data_prep.extractors._pretrained import ImageNetwork, TextNetwork, weights_facts
from data_prep.extractors.base import BrokenItem, Items, extractors
from data_prep.images import eight_bits
from fedapm_mpi.errors import DataError

Task = Literal["humanitarian", "informative"]
Form = Literal["all", "agreed"]

CLASSES = (
    "not_humanitarian",
    "infrastructure_and_utility_damage",
    "vehicle_damage",
    "rescue_volunteering_or_donation_effort",
    "other_relevant_information",
    "affected_individuals",
    "injured_or_dead_people",
    "missing_or_found_people",
)
CLASSES_OF: dict[Task, tuple[str, ...]] = {
    "humanitarian": CLASSES,
    "informative": ("not_informative", "informative"),
}
FORMS: dict[Form, tuple[str, str]] = {
    "all": ("", "crisismmd_datasplit_all.zip"),
    "agreed": ("agreed_lab_", "crisismmd_datasplit_agreed_label.zip"),
}
"""Suffix of the tables' names and archive of the tables, by form."""

TABLES = {"train": 0, "test": 1, "dev": 2}
"""The archive's splits, as train, test and val."""

EVENT = "event_name"
COLUMNS = ("tweet_id", "image_id", "tweet_text", "image", "label_image")
LINK = re.compile(r"https?://\S+")


@extractors.register("crisismmd")
class CrisisMMD:
    """Network features of the image, and of each token of the tweet's text.

    The folder is that of the unpacked archive, with ``data_image``; in it or next to it
    are the tables ``task_humanitarian_text_img_train.tsv``, ``_dev`` and ``_test`` of
    ``crisismmd_datasplit_all.zip``, or ``task_humanitarian_text_img_agreed_lab_*.tsv``
    of ``crisismmd_datasplit_agreed_label.zip``, which hold the items whose image and
    text have the same label. The label is that of the image. Every item has the text
    of its own row, and a tweet's items are never divided by a random split. The event
    of each item is kept, so that ``prepare`` can make clients of events.

    Parameters
    ----------
    origin
        The folder.
    skip_broken
        Whether to leave out items that can't be used.
    image_weights, text_weights
        Image and text network: each a folder, or a name in the library's cache.
    tokens
        Tokens of a text at most.
    task
        Whose tables are read: humanitarian (8 classes) or informative (2 classes).
    tables
        ``all`` items, or those of ``agreed`` labels; if None, all where these tables
        are there, else agreed.
    """

    dataset = "crisismmd"
    added: ClassVar[dict[str, Any]] = {"task": "humanitarian", "tables": None}

    def __init__(
        self,
        origin: Path,
        *,
        skip_broken: bool = False,
        image_weights: str = "google/mobilenet_v2_1.0_224",
        text_weights: str = "google/mobilebert-uncased",
        tokens: Annotated[int, Ge(2)] = 512,
        task: Task = "humanitarian",
        tables: Form | None = None,
    ) -> None:
        self.task, self.tables = task, tables
        self.origin, self.skip_broken, self.tokens = origin, skip_broken, tokens
        self.image_weights, self.text_weights = image_weights, text_weights

    @cached_property
    def _of_image(self) -> ImageNetwork:
        return ImageNetwork(self.image_weights)

    @cached_property
    def _of_text(self) -> TextNetwork:
        return TextNetwork(self.text_weights, self.tokens)

    @cached_property
    def inputs(self) -> dict[str, tuple[int | None, int]]:
        """Image (numbers,) and text (tokens, numbers)."""
        return {
            "image": (None, self._of_image.width),
            "text": (self.tokens, self._of_text.width),
        }

    def facts(self) -> dict[str, Any]:
        """Return the hashes of the weights."""
        return {
            # A key of extraction.json, by which a folder is continued.
            "picture": weights_facts(  # codespell:ignore picture
                self.image_weights, "preprocessor_config.json"
            ),
            "text": weights_facts(self.text_weights, "vocab.txt", "tokenizer.json"),
        }

    def items(self) -> Items:
        """Read the three tables."""
        classes = CLASSES_OF[self.task]
        tables = _tables(self.origin, self.task, self.tables)
        rows = [
            (row, split)
            for name, split in TABLES.items()
            for row in _rows(tables[name])
        ]
        skipped = {}
        counts = Counter(row["image_id"] for row, _ in rows)
        kept: dict[str, tuple[dict[str, str], int]] = {}
        for row, split in rows:
            name = row["image_id"]
            reason = None
            if name in kept:
                reason, name = f"is listed {counts[name]} times", f"{name} (again)"
            elif row["label_image"] not in classes:
                reason = f"has the label {row['label_image']!r}"
            if reason is None:
                kept[name] = (row, split)
            elif self.skip_broken:
                skipped[name] = reason
            else:
                msg = (
                    f"{self.origin}: {row['image_id']} {reason}; leave out all such "
                    "items with skip_broken=true"
                )
                raise DataError(msg)
        names = tuple(sorted(kept))
        rows_kept = [kept[name] for name in names]
        return Items(
            names=names,
            labels=tuple(classes.index(row["label_image"]) for row, _ in rows_kept),
            classes=classes,
            payload=tuple(
                (row["image"], plain(row["tweet_text"])) for row, _ in rows_kept
            ),
            splits=tuple(split for _, split in rows_kept),
            clients=_events(row for row, _ in rows_kept),
            groups=tuple(row["tweet_id"] for row, _ in rows_kept),
            skipped=skipped,
        )

    def extract(self, payload: tuple[str, str]) -> dict[str, NDArray[np.float32]]:
        """Return the image's features and those of the text's tokens."""
        image, text = payload
        image = _open_image(self.origin / image)
        of_image = self._of_image([image])[0]
        return {"image": of_image, "text": self._of_text(text)}


def plain(text: str) -> str:
    """Return a tweet's text without links."""
    return LINK.sub("", text).strip()


def _open_image(path: Path) -> Any:
    try:
        return eight_bits(path)
    except (OSError, ValueError, SyntaxError) as error:
        msg = f"{path.name} can't be decoded ({error})"
        raise BrokenItem(msg) from error


def _events(rows: Iterable[Mapping[str, str]]) -> tuple[str, ...] | None:
    """Return the event of each row, empty without one; None if no row has one."""
    events = tuple((row.get(EVENT) or "").strip() for row in rows)
    return events if any(events) else None


def _tables(origin: Path, task: Task, form: Form | None) -> dict[str, Path]:
    """Return the three tables by split, all of one form."""
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
    hint = "".join(
        f"; there are tables of another task: set task={other}"
        for other in CLASSES_OF
        if other != task and any(_there(origin, other))
    )
    msg = (
        f"neither in {origin} nor next to it is a {' or a '.join(t for _, t in wanted)}"
        f"; these tables belong to the archive{hint}"
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


def _rows(path: Path) -> list[dict[str, str]]:
    """Return a table's rows; quotes are part of a text, or else are around it."""
    rows = _parsed(path, csv.QUOTE_NONE)
    line = _short(rows)
    if line is not None:
        # A text that goes over several lines is in quotes.
        rows = _parsed(path, csv.QUOTE_MINIMAL)
        if _short(rows) is not None:
            msg = f"{path}, line {line}: it has fewer columns than the first line"
            raise DataError(msg)
    return rows


def _parsed(path: Path, quoting: Literal[0, 3]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=quoting)
            for column in COLUMNS:
                if column not in (reader.fieldnames or ()):
                    msg = f"{path} has no column {column!r}; get the table again"
                    raise DataError(msg)
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read {path} ({error}); get the table again"
        raise DataError(msg) from error


def _short(rows: list[dict[str, str]]) -> int | None:
    """Return the line of the first row that lacks columns."""
    for line, row in enumerate(rows, start=2):
        if any(row[column] is None for column in COLUMNS):
            return line
    return None
