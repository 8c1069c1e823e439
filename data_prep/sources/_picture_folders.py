"""Which pictures a folder holds: of what class, and in which part of a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fedapm_mpi.errors import DataError

from ._siblings import PARTS, unread_siblings

SUFFIXES = {
    ".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip


class Pictures(NamedTuple):
    """All pictures of a folder."""

    classes: tuple[str, ...]
    """Sorted."""

    names: list[str]
    """CLASS/NAME, or PART/CLASS/NAME, folder by folder."""

    depth: int
    """Place of the class among the folders of a name."""

    split: dict[str, int] | None
    """Of each folder PART its code, 0 train, 1 test, 2 val; None without a split."""

    notes: tuple[str, ...] = ()

    def class_of(self, name: str) -> int:
        """Return the label of a picture."""
        return self.classes.index(Path(name).parts[self.depth])

    def code_of(self, name: str) -> int:
        """Return the part of the split that a picture lies in."""
        assert self.split is not None
        return self.split[Path(name).parts[0]]


def find_pictures(path: Path) -> Pictures:
    """Return the pictures in CLASS/NAME or, where it is split, PART/CLASS/NAME.

    Raises
    ------
    DataError
        If there are none, a class has none, or parts of a split lie beside other
        folders or hold pictures that are in no folder of a class.
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
    return _found(path, folders, 0, None)._replace(notes=notes)


def _folders(path: Path) -> list[Path]:
    return sorted(f for f in path.glob("*") if f.is_dir() and f.name[0] != ".")


def _found(
    path: Path, folders: Sequence[Path], depth: int, split: dict[str, int] | None
) -> Pictures:
    names = [
        file.relative_to(path).as_posix()
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    classes = tuple(sorted({folder.name for folder in folders}))
    empty = set(classes) - {Path(name).parts[depth] for name in names}
    if not names or empty:
        where = next((f for f in folders if f.name in empty), path)
        msg = f"{where} holds no pictures; give the folder that has one for each class"
        raise DataError(msg)
    return Pictures(classes, names, depth, split)


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
