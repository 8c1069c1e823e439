"""CREMA-D: actors who say sentences in an emotion, as sound and film."""

import csv
from collections import Counter
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from data_prep.extractors._audio import BANDS, filter_bank
from data_prep.extractors._pretrained import ImageNetwork, weights_facts
from data_prep.extractors._video import frames
from data_prep.extractors.base import BrokenItem, Items, check_contents, extractors
from data_prep.regular_files import check_regular
from fedapm_mpi.errors import DataError

VOTES = {"A": "anger", "S": "sadness", "H": "happiness", "N": "neutral"}
TABLE = "processedResults/summaryTable.csv"
EMPTY = "1076_MTI_SAD_XX"
"""A clip that is published without sound."""


@extractors.register("crema-d")
class CremaD:
    """Filter banks of the sound, and network features of one frame a second.

    The folder is a clone of the authors' repository, with ``AudioWAV``, ``VideoFlash``
    and ``processedResults/summaryTable.csv``. The label of a clip is what most of its
    viewers voted for; of these, anger, sadness, happiness and neutral are kept, and
    clips without a majority are left out. Each speaker is a client.

    Parameters
    ----------
    origin
        The folder.
    skip_broken
        Whether to leave out clips that can't be used.
    weights
        Image network: a folder, or a name in the library's cache.
    audio_frames
        Frames of the sound at most, one in 10 ms.
    video_frames
        Frames of the film at most, one a second.
    """

    dataset = "crema-d"

    def __init__(
        self,
        origin: Path,
        *,
        skip_broken: bool = False,
        weights: str = "google/mobilenet_v2_1.0_224",
        audio_frames: Annotated[int, Ge(1)] = 600,
        video_frames: Annotated[int, Ge(1)] = 10,
    ) -> None:
        self.origin, self.skip_broken, self.weights = origin, skip_broken, weights
        self.audio_frames, self.video_frames = audio_frames, video_frames

    @cached_property
    def _network(self) -> ImageNetwork:
        return ImageNetwork(self.weights)

    @cached_property
    def inputs(self) -> dict[str, tuple[int | None, int]]:
        """Sound (T, 80) and film (T, numbers of the network)."""
        return {
            "audio": (self.audio_frames, BANDS),
            "video": (self.video_frames, self._network.width),
        }

    def facts(self) -> dict[str, Any]:
        """Return the hashes of the weights."""
        return weights_facts(self.weights, "preprocessor_config.json")

    def items(self) -> Items:
        """Read the table of votes."""
        check_contents(self.origin / TABLE)
        votes = _votes(self.origin / TABLE)
        repeated = [name for name, n in Counter(n for n, _ in votes).items() if n > 1]
        if repeated and not self.skip_broken:
            msg = (
                f"{self.origin / TABLE} lists {repeated[0]} twice; keep the first of "
                "each with skip_broken=true"
            )
            raise DataError(msg)
        kept: dict[str, int] = {}
        for name, vote in votes:
            if vote in VOTES and name != EMPTY:
                kept.setdefault(name, list(VOTES).index(vote))
        if not kept:
            msg = (
                f"{self.origin / TABLE} lists no clip with a vote of {', '.join(VOTES)}"
            )
            raise DataError(msg)
        names = tuple(sorted(kept))
        unnamed = [name for name in names if not name.split("_")[0].strip()]
        if unnamed:
            msg = (
                f"{self.origin / TABLE}: {len(unnamed)} of {len(names)} clips name no "
                f"speaker, the first is {unnamed[0]!r}; get the table again"
            )
            raise DataError(msg)
        # A clone without git-lfs lacks all of them, which is no broken clip.
        for path in self._files(names[0]):
            check_contents(path)
        return Items(
            names=names,
            labels=tuple(kept[name] for name in names),
            classes=tuple(VOTES.values()),
            payload=names,
            clients=tuple(name.split("_")[0] for name in names),
            skipped={f"{name} (again)": "is listed twice" for name in repeated},
        )

    def extract(self, payload: str) -> dict[str, NDArray[np.float32]]:
        """Return the sound's filter bank and the film's features."""
        sound, film = self._files(payload)
        for path in (sound, film):
            try:
                with suppress(OSError):  # The reader of the file says more.
                    check_regular(path)
            except ValueError as error:
                msg = f"{path.name} can't be decoded ({error})"
                raise BrokenItem(msg) from error
        audio = filter_bank(sound, self.audio_frames)
        images = frames(film, self.video_frames)
        return {"audio": audio, "video": self._network(images)}

    def _files(self, name: str) -> tuple[Path, Path]:
        return (
            self.origin / "AudioWAV" / f"{name}.wav",
            self.origin / "VideoFlash" / f"{name}.flv",
        )


def _votes(path: Path) -> list[tuple[str, str]]:
    """Return the names of all clips, and what their viewers voted for."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for column in ("FileName", "MultiModalVote"):
                if column not in (reader.fieldnames or ()):
                    msg = f"{path} has no column {column!r}; get CREMA-D's own again"
                    raise DataError(msg)
            rows = [(row["FileName"], row["MultiModalVote"]) for row in reader]
            short = [k for k, row in enumerate(rows, 2) if None in row]
            if short:
                msg = f"{path}, line {short[0]}: it has fewer columns than line 1"
                raise DataError(msg)
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = (
            f"cannot read {path} ({error}): --from must be a clone of the repository "
            "CheyneyComputerScience/CREMA-D"
        )
        raise DataError(msg) from error
