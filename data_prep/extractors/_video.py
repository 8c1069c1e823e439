"""Frames of a film."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.extractors.base import BrokenItem, needs

DROPPED = 2
"""Frames at the end that are left out."""


def frames(path: Path, longest: int) -> list[Any]:
    """Return one frame a second of a film, as PIL images.

    Every floor(frames per second)-th frame, the first included, without the film's
    last two.

    Parameters
    ----------
    path
        The film.
    longest
        Frames to return at most.

    Raises
    ------
    BrokenItem
        If it can't be decoded to its end, or has no frame left.
    """
    try:
        import av
    except ImportError as error:
        raise needs(error, library="PyAV", extra="vision") from error
    kept: list[tuple[int, Any]] = []
    number = 0
    try:
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            step = max(1, int(rate)) if rate else 1
            decoded: Iterable[Any] = film.decode(stream)
            for number, frame in enumerate(decoded, start=1):
                if (number - 1) % step == 0 and len(kept) < longest:
                    kept.append((number, frame.to_image()))
    except (OSError, ValueError, IndexError) as error:
        msg = f"{path.name} can't be decoded ({error})"
        raise BrokenItem(msg) from error
    found = [image for at, image in kept if at <= number - DROPPED]
    if not found:
        msg = f"{path.name} has {number} frames, too few"
        raise BrokenItem(msg)
    return found
