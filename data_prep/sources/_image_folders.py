"""Which images a folder holds: of what class, and in which part of a split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.sample_fields import PARTS
from data_prep.sources._siblings import unread_siblings
from data_prep.sources.base import Source
from fedapm_mpi.data.manifest import SPLITS
from fedapm_mpi.errors import DataError

SUFFIXES = {
    ".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip


class ImageFiles(NamedTuple):
    """All images of a folder."""

    classes: tuple[str, ...]
    """Sorted."""

    names: list[str]
    """CLASS/NAME, or PART/CLASS/NAME, folder by folder."""

    depth: int
    """Place of the class among the folders of a name."""

    split: dict[str, int] | None
    """Of each folder PART its code, 0 train, 1 test, 2 val; None without a split."""

    warnings: tuple[str, ...] = ()
    """On parts of the split next to the folder."""

    def label(self, name: str) -> int:
        """Return the label of an image."""
        return self.classes.index(Path(name).parts[self.depth])


def find_images(path: Path) -> ImageFiles:
    """Return the images in CLASS/NAME or, where it is split, PART/CLASS/NAME.

    Raises
    ------
    DataError
        If there are none, a class has none, or parts of a split lie next to other
        folders or hold images that are in no folder of a class.
    """
    folders = _folders(path)
    parts = {f.name: PARTS[f.name.lower()] for f in folders if f.name.lower() in PARTS}
    inner = [folder for part in parts for folder in _folders(path / part)]
    if len(set(parts.values())) > 1:
        _check_parts(path, folders, parts)
        return _found(path, inner, 1, parts)
    if len(parts) == len(folders) == 1 and inner:
        # One part alone, such as the training part: it has no other part to be kept
        # apart from.
        _check_parts(path, folders, parts)
        return _found(path, inner, 1, None)
    notes = unread_siblings(
        path,
        "give {folder} to keep that split",
        lambda folder: folder.is_dir() and bool(_folders(folder)),
    )
    return _found(path, folders, 0, None)._replace(warnings=notes)


def in_parts(source: Source, images: ImageFiles, names: Sequence[str]) -> Source:
    """Return a source of these images with the split of the folders they lie in.

    Parameters
    ----------
    source
        Of the images `names`; its own split, if it has one, is that of a table.
    images
        What `find_images` returned.
    names
        Of each sample its image.

    Raises
    ------
    DataError
        If the table and the folders disagree.
    """
    hint = "a csv of clients names them, table=FILE"
    if images.split is None:
        warnings = images.warnings if source.split is None else ()
        return replace(source, warnings=(*source.warnings, *warnings), client_hint=hint)
    codes = np.array([images.split[Path(n).parts[0]] for n in names], np.int8)
    if source.split is not None:
        wrong = np.flatnonzero(codes != source.split)
        if wrong.size:
            msg = (
                f"the table marks {names[wrong[0]]} as {SPLITS[source.split[wrong[0]]]}"
                f" ({len(wrong)} of {len(names)} images lie in the folder of another "
                "part); correct its column 'split', or leave that out"
            )
            raise DataError(msg)
    return replace(source, split=codes, default_split="own", client_hint=hint)


def _folders(path: Path) -> list[Path]:
    return sorted(f for f in path.glob("*") if f.is_dir() and f.name[0] != ".")


def _found(
    path: Path, folders: Sequence[Path], depth: int, split: dict[str, int] | None
) -> ImageFiles:
    names = [
        file.relative_to(path).as_posix()
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES and not file.is_dir()
    ]
    classes = tuple(sorted({folder.name for folder in folders}))
    empty = set(classes) - {Path(name).parts[depth] for name in names}
    if not names or empty:
        where = next((f for f in folders if f.name in empty), path)
        msg = f"{where} holds no images; give the folder that has one for each class"
        raise DataError(msg)
    return ImageFiles(classes, names, depth, split)


def _check_parts(path: Path, folders: Sequence[Path], parts: dict[str, int]) -> None:
    """Refuse what is neither a folder for each part nor a folder for each class."""
    shown = ", ".join(sorted(parts))
    for folder in folders:
        if folder.name not in parts:
            msg = (
                f"{path}: {shown} are taken for the parts of a split, but there is "
                f"{folder.name} too; move it elsewhere, or rename the others if all of "
                "these are classes"
            )
            raise DataError(msg)
        for file in sorted(folder.glob("*")):
            if file.suffix.lower() in SUFFIXES and not file.is_dir():
                msg = (
                    f"{file} lies in no folder of a class: {shown} are taken for the "
                    "parts of a split, each with a folder for each class; rename them "
                    "if they are classes"
                )
                raise DataError(msg)
