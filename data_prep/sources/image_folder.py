"""Pictures in a folder for each class, and a table that says whose they are."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.manifest import SPLITS, InputSpec
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.shards import Column, Table

from ._picture_folders import find_pictures, in_parts
from .base import Source, sources

CHANNELS = {"rgb": ("RGB", 3), "grey": ("L", 1)}


@sources.register("image-folder")
def image_folder(
    path: Path,
    *,
    size: int = 32,
    colours: Literal["rgb", "grey"] = "rgb",
    table: str | None = None,
    client: str = "client",
    skip_broken: bool = False,
) -> Source:
    """Read pictures from CLASS/NAME.png, jpg and so on; clients from a csv.

    Each folder is a class, as torchvision's ImageFolder has it, or one of the parts
    ``train``, ``test`` and ``val``, each with a folder for each class: these parts are
    kept unless ``split=random``. Pictures are turned as their EXIF says, scaled to size
    × size (their shape is not kept) and stored as bytes; a model sees -1 to 1. They are
    decoded one by one as they are written, so that the folder may be larger than
    memory.

    Split: that of folders train, test and val, or of the csv, if there is one.

    Parameters
    ----------
    path
        The folder of the folders.
    size
        Width and height in pixels.
    colours
        ``rgb`` or ``grey``.
    table
        A csv in the folder, or elsewhere, with one line for each picture: ``file``
        (CLASS/NAME.png, or PART/CLASS/NAME.png), a column of clients, and maybe
        ``split`` (train, test or val), which is then kept unless ``split=random``.
        If None there are no natural clients.
    client
        Name of the csv's column of clients.
    skip_broken
        Whether to leave out pictures that do not decode; the manifest names them.

    Raises
    ------
    DataError
        If there are no pictures, one does not decode, or the table and the folder do
        not name the same pictures.
    ConfigError
        If `size` is not positive, or Pillow is not installed.
    """
    if size < 1:
        msg = f"size must be at least 1, got {size}"
        raise ConfigError(msg)
    pictures = find_pictures(path)
    classes, found = pictures.classes, pictures.names
    decode = _decoder(size, colours)
    sound, skipped = _sound(path, found, decode, skip_broken)
    files = [path / name for name in sound]
    labels = np.array([pictures.label(name) for name in sound], np.int64)
    spec = InputSpec(
        "image",
        (CHANNELS[colours][1], size, size),
        "uint8",
        scale=1 / 127.5,
        shift=-1.0,
    )

    def take(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([decode(files[row]) for row in rows.tolist()])

    columns = [Column(spec, take)]
    made = Table(path.resolve().name, columns, labels, classes)
    if table is None:
        source = Source(made, tuple(files), skipped=skipped)
        return in_parts(source, pictures, sound)
    origin = path / table if (path / table).is_file() else Path(table)
    owners, split = _owners(origin, found, sound, client)
    names, ids = np.unique(owners, return_inverse=True)
    source = Source(
        made,
        (origin, *files),
        ids,
        tuple(names.tolist()),
        split=split,
        default_split="random" if split is None else "own",
        skipped=skipped,
    )
    return in_parts(source, pictures, sound)


def _decoder(size: int, colours: str) -> Callable[[Path], NDArray[np.uint8]]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        msg = (
            "pictures need Pillow, which is not installed: install it with "
            "pip install 'fedapm-mpi[vision]'"
        )
        raise ConfigError(msg) from error
    mode, channels = CHANNELS[colours]

    def decode(file: Path) -> NDArray[np.uint8]:
        with Image.open(file) as opened:
            turned = ImageOps.exif_transpose(opened).convert(mode)
        scaled = turned.resize((size, size), Image.Resampling.BILINEAR)
        pixels: NDArray[np.uint8] = np.asarray(scaled).reshape(size, size, channels)
        return pixels.transpose(2, 0, 1)

    return decode


def _sound(
    path: Path,
    names: Sequence[str],
    decode: Callable[[Path], Any],
    skip_broken: bool,
) -> tuple[list[str], tuple[str, ...]]:
    """Return the pictures that decode, and the others."""
    sound, broken = [], []
    for name in names:
        try:
            decode(path / name)
            sound.append(name)
        except Exception as error:  # A damaged picture raises anything.
            if not skip_broken:
                msg = (
                    f"{path / name} does not decode ({error}); repair or remove it, "
                    "or leave out all such pictures with skip_broken=true"
                )
                raise DataError(msg) from error
            broken.append(name)
    if not sound:
        msg = f"{path}: none of the {len(names)} pictures decodes"
        raise DataError(msg)
    return sound, tuple(broken)


def _owners(
    table: Path, found: Sequence[str], sound: Sequence[str], client: str
) -> tuple[NDArray[np.str_], NDArray[np.int8] | None]:
    """Return the client of each sound picture, and its split if the table says."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read the table {table}: {error}"
        raise DataError(msg) from error
    for name in ("file", client):
        if name not in columns:
            msg = (
                f"{table} has no column {name!r}{did_you_mean(name, columns)} "
                f"(it has: {', '.join(columns)})"
            )
            raise DataError(msg)
    listed: dict[str, tuple[str, str | None]] = {}
    for number, line in enumerate(lines, 2):
        name, owner = line["file"], line[client]
        if name in listed:
            msg = f"{table}, line {number}: {name} has been listed before"
            raise DataError(msg)
        if not owner:
            msg = f"{table}, line {number}: {name} has no {client}"
            raise DataError(msg)
        if "split" in columns and line["split"] not in SPLITS:
            msg = (
                f"{table}, line {number}: split must be one of {', '.join(SPLITS)}, "
                f"not {line['split']!r}"
            )
            raise DataError(msg)
        listed[name] = owner, line.get("split")
    for name in sorted(listed.keys() ^ set(found)):
        what = "is not there" if name in listed else "is not in the table"
        msg = f"{table}: {name} {what}; table and folder must name the same pictures"
        raise DataError(msg)
    owners = np.array([listed[name][0] for name in sound])
    if "split" not in columns:
        return owners, None
    codes = [SPLITS.index(str(listed[name][1])) for name in sound]
    return owners, np.array(codes, np.int8)
