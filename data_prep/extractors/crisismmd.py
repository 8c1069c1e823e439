"""CrisisMMD v2.0: tweets of disasters, each a text and an image."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from data_prep.extractors._crisismmd_tables import Form, Row, Task, read_rows
from data_prep.extractors._pretrained import ImageNetwork, TextNetwork, weights_facts
from data_prep.extractors.base import BrokenItem, Items, extractors
from data_prep.images import eight_bits
from fedapm_mpi.errors import DataError

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
IMAGES = "data_image"
NOT_ASKED = "has no label: the question was not asked"
LINK = re.compile(r"https?://\S+")


@extractors.register("crisismmd")
class CrisisMMD:
    """Network features of the image, and of each token of the tweet's text.

    The folder is that of the unpacked archive, with ``data_image``; in it or next to it
    are the tables ``task_humanitarian_text_img_train.tsv``, ``_dev`` and ``_test`` of
    ``crisismmd_datasplit_all.zip``, or ``task_humanitarian_text_img_agreed_lab_*.tsv``
    of ``crisismmd_datasplit_agreed_label.zip``, which hold the items whose image and
    text have the same label. With ``tables=annotations`` the tables are those of the
    events, ``annotations/EVENT_final_data.tsv``, which have no split. The label is that
    of the image. Every item has the text of its own row, and a tweet's items are never
    divided by a random split. The event of each item is kept, so that ``prepare`` can
    make clients of events.

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
        ``all`` items, those of ``agreed`` labels, or the ``annotations``, of which
        images without a label are left out; if None, all where these tables are there,
        else agreed.
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
        """Read the tables."""
        classes = CLASSES_OF[self.task]
        kept, skipped = self._sound(
            read_rows(self.origin, self.task, self.tables), classes
        )
        names = tuple(sorted(kept))
        rows = [kept[name] for name in names]
        splits = tuple(row.split for row in rows if row.split is not None)
        return Items(
            names=names,
            labels=tuple(classes.index(row.label) for row in rows),
            classes=classes,
            payload=tuple((row.image, plain(row.text)) for row in rows),
            splits=splits or None,
            clients=_events(rows),
            groups=tuple(row.tweet for row in rows),
            skipped=skipped,
        )

    def _sound(
        self, rows: Sequence[Row], classes: Sequence[str]
    ) -> tuple[dict[str, Row], dict[str, str]]:
        """Return the usable rows by name, and why others are left out."""
        skipped = {}
        counts = Counter(row.name for row in rows)
        kept: dict[str, Row] = {}
        for row in rows:
            name = row.name
            reason = None
            if name in kept:
                reason, name = f"is listed {counts[name]} times", f"{name} (again)"
            elif row.wrong:
                reason = row.wrong
            elif row.split is None and not row.label.strip():
                skipped[name] = NOT_ASKED
                continue
            elif row.label not in classes:
                reason = f"has the label {row.label!r}"
            if reason is None:
                kept[name] = row
            elif self.skip_broken:
                skipped[name] = reason
            else:
                msg = (
                    f"{row.where}: {row.name} {reason}; leave out all such items with "
                    "skip_broken=true"
                )
                raise DataError(msg)
        return kept, skipped

    def extract(self, payload: tuple[str, str]) -> dict[str, NDArray[np.float32]]:
        """Return the image's features and those of the text's tokens."""
        image, text = payload
        image = _open_image(_place(self.origin, image))
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


def _place(origin: Path, image: str) -> Path:
    """Return an image's file, whose path may begin below ``data_image``."""
    path, below = origin / image, origin / IMAGES / image
    return below if below.is_file() and not path.is_file() else path


def _events(rows: Sequence[Row]) -> tuple[str, ...] | None:
    """Return the event of each row, empty without one; None if no row has one."""
    events = tuple(row.event for row in rows)
    return events if any(events) else None
