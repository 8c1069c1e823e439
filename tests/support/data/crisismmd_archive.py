"""Look-alikes of CrisisMMD's tables, with what their description names.

Both forms are written from the same items, so that they can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.data.archives import TWEET

EVENTS = (
    "california_wildfires", "hurricane_harvey", "hurricane_irma", "hurricane_maria",
    "iraq_iran_earthquake", "mexico_earthquake", "srilanka_floods",
)  # fmt: skip

ANNOTATED = (
    "tweet_id", "image_id", "text_info", "text_info_conf", "image_info",
    "image_info_conf", "text_human", "text_human_conf", "image_human",
    "image_human_conf", "image_damage", "image_damage_conf", "tweet_text",
    "image_url", "image_path",
)  # fmt: skip
"""Columns of a table of annotations."""

LABELS = (
    "not_humanitarian",
    "infrastructure_and_utility_damage",
    "affected_individuals",
    "rescue_volunteering_or_donation_effort",
)


@dataclass(frozen=True)
class Item:
    """One image of a tweet, and what was said of it."""

    event: str
    tweet: str
    index: int
    text: str
    human: str
    info: str = "informative"
    damage: str = ""
    ending: str = "jpg"

    @property
    def name(self) -> str:
        """Name of the image: the tweet's, and its index."""
        return f"{self.tweet}_{self.index}"

    @property
    def path(self) -> str:
        """Path of the image, relative to the archive's folder."""
        return f"data_image/{self.event}/10_10_2017/{self.name}.{self.ending}"


def items(per_event: int = 6, events: Sequence[str] = EVENTS) -> list[Item]:
    """Return items of all events; every third tweet has two images."""
    made = []
    number = 0
    for event in events:
        for k in range(per_event):
            second = k % 3 == 2
            label = LABELS[number % len(LABELS)]
            nothing = label == "not_humanitarian"
            made.append(
                Item(
                    event=event,
                    tweet=str(917791291823591425 + number - second),
                    index=int(second),
                    text=f'RT @a: "help" {number - second} https://t.co/x{number}',
                    human=label,
                    info="not_informative" if nothing else "informative",
                    damage="severe_damage" if "damage" in label else "",
                    ending="png" if k == 4 else "jpg",
                )
            )
            number += 1
    return made


def before_two(found: Sequence[Item], number: int) -> list[Item]:
    """Return items, the first `number` of which have version 1's labels of no class."""
    old = [
        replace(
            item, human="not_relevant_or_cant_judge", info="dont_know_or_cant_judge"
        )
        for item in found[:number]
    ]
    return [*old, *found[number:]]


def not_asked(found: Sequence[Item], number: int) -> list[Item]:
    """Return items, the first `number` of which have no humanitarian label."""
    none = [replace(item, human="", info="not_informative") for item in found[:number]]
    return [*none, *found[number:]]


def annotations(
    root: Path,
    found: Sequence[Item],
    *,
    below_images: bool = False,
    mark: bool = False,
    resource_forks: bool = False,
    line_end: str = "\n",
) -> Path:
    """Write a table of annotations for each event.

    Parameters
    ----------
    root
        Folder of the archive.
    found
        The items.
    below_images
        Whether paths of images begin in ``data_image``, as the description says.
    mark
        Whether files begin with a byte order mark.
    resource_forks
        Whether each table has a file ``._NAME`` next to it.
    line_end
        End of each line.
    """
    folder = root / "annotations"
    folder.mkdir(parents=True)
    for event in dict.fromkeys(item.event for item in found):
        rows = [
            [item.tweet, item.name, item.info, "1.0", item.info, "0.6731", item.human,
             "1.0" if item.human else "", item.human, "0.681" if item.human else "",
             item.damage, "0.7" if item.damage else "", item.text,
             f"http://pbs.twimg.com/media/{item.name}.{item.ending}",
             item.path.removeprefix("data_image/") if below_images else item.path]
            for item in found if item.event == event
        ]  # fmt: skip
        name = f"{event}_final_data.tsv"
        written(folder / name, ANNOTATED, rows, mark=mark, line_end=line_end)
        if resource_forks:
            (folder / f"._{name}").write_bytes(b"\x00\x05\x16\x07")
    return root


def splits(
    root: Path, found: Sequence[Item], more: str = "", *, mark: bool = False
) -> Path:
    """Write the three tables of the official splits.

    Parameters
    ----------
    root
        Folder of the archive.
    found
        The items.
    more
        ``agreed_lab_`` for the tables of agreed labels.
    mark
        Whether files begin with a byte order mark.
    """
    folder = root / f"crisismmd_datasplit_{'agreed_label' if more else 'all'}"
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        rows = [
            [item.event, item.tweet, item.name, item.text, item.path, item.human,
             item.human, item.human, "Positive"]
            for item in found if split_of(item) == split
        ]  # fmt: skip
        name = f"task_humanitarian_text_img_{more}{split}.tsv"
        written(folder / name, TWEET, rows, mark=mark)
    return root


def split_of(item: Item) -> str:
    """Return the split of an item, the same for all of a tweet."""
    return ("train", "train", "dev", "test")[int(item.tweet) % 4]


def written(
    path: Path,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    mark: bool = False,
    line_end: str = "\n",
) -> None:
    """Write a table, separated by tabs."""
    lines = ["\t".join(columns), *("\t".join(row) for row in rows)]
    text = ("\ufeff" if mark else "") + "".join(line + line_end for line in lines)
    path.write_bytes(text.encode())


def images(root: Path, found: Sequence[Item]) -> dict[str, float]:
    """Write each item's image, of one shade of grey; return the shades by name."""
    shades = {}
    for number, item in enumerate(found):
        shade = 5 + 4 * (number % 60)
        path = root / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 12, 3), shade, np.uint8)).save(path)
        shades[item.name] = float(shade)
    return shades
