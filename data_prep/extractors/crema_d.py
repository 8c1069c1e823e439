"""CREMA-D: actors who say sentences in an emotion, as sound and film."""

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

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

EMOTIONS = frozenset("ADFHNS")
"""Letters of votes; several with colons between them are a tie."""

NAME = re.compile(r"[^_\s/\\][^_/\\]*(_[^_/\\]+){3}")
"""Actor, sentence, emotion and level."""

COLUMNS = ("FileName", "MultiModalVote")


class Clip(NamedTuple):
    """One row of the table of votes."""

    name: str
    vote: str
    line: int


@extractors.register("crema-d")
class CremaD:
    """Filter banks of the sound, and network features of one frame a second.

    The folder is a clone of the authors' repository, with ``AudioWAV``, ``VideoFlash``
    and ``processedResults/summaryTable.csv``. The label of a clip is what most of its
    viewers voted for; of these, anger, sadness, happiness and neutral are kept, and
    clips without a majority are left out, and the one that has no sound. Each speaker
    is a client.

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
        skipped = self._faults(votes)
        first: dict[str, str] = {}
        for clip in votes:
            first.setdefault(clip.name, clip.vote)
        kept = {
            name: list(VOTES).index(vote)
            for name, vote in first.items()
            if vote in VOTES and name != EMPTY
        }
        if not kept:
            msg = (
                f"{self.origin / TABLE} lists no clip with a vote of {', '.join(VOTES)}"
            )
            raise DataError(msg)
        names = tuple(sorted(kept))
        # A clone without git-lfs lacks all of them, which is no broken clip.
        for path in self._files(names[0]):
            check_contents(path)
        return Items(
            names=names,
            labels=tuple(kept[name] for name in names),
            classes=tuple(VOTES.values()),
            payload=names,
            clients=tuple(name.split("_")[0] for name in names),
            skipped=skipped,
        )

    def _faults(self, votes: Sequence[Clip]) -> dict[str, str]:
        """Return why rows of the table are left out, or refuse the first of them."""
        table = self.origin / TABLE
        skipped = {}
        seen: set[str] = set()
        for clip in votes:
            name, reason, column = clip.name, "", COLUMNS[0]
            remedy = "leave out all such clips with skip_broken=true"
            if clip.name in seen:
                name, reason = f"{clip.name} (again)", "is listed twice"
                remedy = "keep the first of each with skip_broken=true"
            elif not set(clip.vote.split(":")) <= EMOTIONS:
                reason, column = f"has the vote {clip.vote!r}", COLUMNS[1]
            elif clip.vote in VOTES and not NAME.fullmatch(clip.name):
                msg = (
                    f"{table}, line {clip.line}, column {column!r}: {clip.name!r} "
                    "names no speaker, as 1001_DFA_ANG_XX does (actor, sentence, "
                    "emotion, level); get the table again"
                )
                raise DataError(msg)
            seen.add(clip.name)
            if reason and not self.skip_broken:
                msg = (
                    f"{table}, line {clip.line}, column {column!r}: {clip.name} "
                    f"{reason}; {remedy}"
                )
                raise DataError(msg)
            if reason:
                skipped[name] = reason
        return skipped

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


def _votes(path: Path) -> list[Clip]:
    """Return all clips, and what their viewers voted for."""
    clips = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.casefold() for name in next(reader, [])]
            for column in COLUMNS:
                # The table's description has fileName.
                if column.casefold() not in header:
                    msg = f"{path} has no column {column!r}; get CREMA-D's own again"
                    raise DataError(msg)
            places = [header.index(column.casefold()) for column in COLUMNS]
            for cells in reader:
                if not cells:
                    continue
                line = reader.line_num
                if len(cells) <= max(places):
                    msg = (
                        f"{path}, line {line}: it has fewer columns than line 1; get "
                        "CREMA-D's own table again"
                    )
                    raise DataError(msg)
                name, vote = (cells[place] for place in places)
                clips.append(Clip(name, vote, line))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = (
            f"cannot read {path} ({error}): --from must be a clone of the repository "
            "CheyneyComputerScience/CREMA-D"
        )
        raise DataError(msg) from error
    return clips
