"""Look-alikes of CREMA-D's clone, with what its description names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from tests.support.data.archives import RATE, film

HEADER = ("", "FileName", "VoiceVote", "VoiceLevel", "FaceVote", "FaceLevel",
          "MultiModalVote", "MultiModalLevel")  # fmt: skip
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS",
             "TSI", "WSI")  # fmt: skip
EMOTIONS = {"ANG": "A", "DIS": "D", "FEA": "F", "HAP": "H", "NEU": "N", "SAD": "S"}
LEVELS = ("LO", "MD", "HI")

NAMED = {
    "1076_MTI_NEU_XX": "N",
    "1076_MTI_SAD_XX": "S",
    "1064_TIE_SAD_XX": "S",
    "1064_IEO_DIS_MD": "D",
}
"""The clips whose files the description calls wrong, and their votes."""


def names(actors: Sequence[str] = ("1001", "1002")) -> list[str]:
    """Return all clips of actors: one sentence in three levels, the others in none."""
    made = []
    for actor in actors:
        for sentence in SENTENCES:
            for emotion in EMOTIONS:
                three = sentence == "IEO" and emotion != "NEU"
                levels = LEVELS if three else ("XX",)
                made += [f"{actor}_{sentence}_{emotion}_{level}" for level in levels]
    return made


def acted(clips: Sequence[str]) -> dict[str, str]:
    """Return, by clip, a vote for what the actor meant."""
    return {clip: EMOTIONS[clip.split("_")[2]] for clip in clips}


def table(
    root: Path,
    votes: Mapping[str, str] | Sequence[tuple[str, str]],
    *,
    header: Sequence[str] = HEADER,
    mark: bool = False,
) -> Path:
    """Write the table of votes, every cell in quotes.

    Parameters
    ----------
    root
        Folder of the clone.
    votes
        Votes by clip, or pairs of a clip and its votes.
    header
        Names of the columns; the description has ``fileName``.
    mark
        Whether the file begins with a byte order mark.
    """
    pairs = list(votes.items()) if isinstance(votes, Mapping) else list(votes)
    path = root / "processedResults" / "summaryTable.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        [str(number), name, "N", "50", "A:F", "30.67:51.00", vote,
         ":".join(["60"] * len(vote.split(":")))]
        for number, (name, vote) in enumerate(pairs, start=1)
    ]  # fmt: skip
    lines = [",".join(f'"{cell}"' for cell in row) for row in [header, *rows]]
    text = ("\ufeff" if mark else "") + "\n".join(lines) + "\n"
    path.write_bytes(text.encode())
    return root


def clip(
    root: Path,
    name: str,
    *,
    seconds: float = 0.3,
    rate: int = RATE,
    shades: Sequence[int] = (40, 60, 80, 100, 120, 140),
    film_rate: int = 4,
) -> None:
    """Write a clip's sound and film.

    Parameters
    ----------
    root
        Folder of the clone.
    name
        Name of the clip.
    seconds
        Length of the sound.
    rate
        Its samples a second.
    shades
        Shade of grey of each frame of the film.
    film_rate
        Its frames a second.
    """
    for folder in ("AudioWAV", "VideoFlash"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    seed = [int(part, 36) for part in name.split("_")]
    sound = 3000 * np.random.default_rng(seed).normal(size=int(rate * seconds))
    wavfile.write(root / "AudioWAV" / f"{name}.wav", rate, sound.astype(np.int16))
    frames = [np.full((48, 64, 3), shade, np.uint8) for shade in shades]
    film(root / "VideoFlash" / f"{name}.flv", frames, film_rate)
