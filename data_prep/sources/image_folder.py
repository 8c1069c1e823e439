"""Images in a folder for each class, and a table that says whose they are."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.images import CHANNELS, WIDE, decode_image, pillow
from data_prep.sources._client_table import owners_of
from data_prep.sources._image_folders import SUFFIXES, find_images, in_parts
from data_prep.sources.base import Source, sources
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.text import format_some, truncate

DIM = 4096
"""If no 16-bit value is above this, a warning says that the images are dark."""


@sources.register("image-folder")
def image_folder(
    path: Path,
    *,
    size: int = 32,
    colours: Literal["rgb", "grey"] = "rgb",
    table: str | None = None,
    client: str | tuple[str, ...] = "client",
    skip_broken: bool = False,
) -> Source:
    """Read images from CLASS/NAME.png, jpg and so on; clients from a csv.

    Each folder is a class, as in torchvision's ImageFolder, or one of the parts
    ``train``, ``test`` and ``val``, each with a folder for each class: these parts are
    kept unless ``split=random``. Images are rotated by EXIF and scaled to size × size.

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
        A csv with a line per image: ``file`` (its path in the folder), a column of
        clients, and optionally ``split`` (train, test or val).
    client
        Name of the csv's column of clients; of several columns, each combination that
        occurs is a client.
    skip_broken
        Whether to leave out images that do not decode; the manifest names them.

    Raises
    ------
    DataError
        If there are no images, one does not decode, or the table names others.
    ConfigError
        If `size` is not positive, or Pillow is not installed.
    """
    if size < 1:
        msg = f"size must be at least 1, got {size}"
        raise ConfigError(msg)
    owners = (client,) if isinstance(client, str) else client
    if not owners:
        msg = "client names no column; name one or several"
        raise ConfigError(msg)
    pillow()
    folders = find_images(path)
    sound = _sound(path, folders.names, size, colours, skip_broken)
    files = [path / name for name in sound.names]
    labels = np.array([folders.label(name) for name in sound.names], np.int64)
    column = _column(files, size, colours, wide=sound.wide)
    source = Source(
        Table(path.resolve().name, [column], labels, folders.classes),
        tuple(files),
        skipped=sound.skipped,
        notes=sound.notes,
        warnings=(*sound.warnings, *_others(path, folders.depth)),
    )
    if table is not None:
        origin = path / table if (path / table).exists() else Path(table)
        source = owners_of(source, origin, folders.names, sound.names, owners)
    return in_parts(source, folders, sound.names)


def _column(
    files: Sequence[Path], size: int, colours: Literal["rgb", "grey"], *, wide: bool
) -> Column:
    """Return the input; images are decoded when they are fetched, to save memory.

    If one has 16 bits, all are stored with 16 bits, those of 8 bits times 257.
    """
    dtype = "uint16" if wide else "uint8"
    scale = 1 / 32767.5 if wide else 1 / 127.5
    shape = (CHANNELS[colours][1], size, size)

    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        block = np.empty((len(rows), *shape), dtype)
        for target, row in zip(block, rows.tolist(), strict=True):
            pixels = decode_image(files[row], size, colours).pixels
            narrow = wide and pixels.dtype == np.uint8
            target[:] = pixels.astype(np.uint16) * WIDE if narrow else pixels
        return block

    return Column(InputSpec("image", shape, dtype, scale=scale, shift=-1.0), take)


def _others(path: Path, depth: int) -> tuple[str, ...]:
    """Return sentences on files that are not read, in folders of classes or above."""
    kinds = Counter(
        file.suffix.lower() or file.name
        for folder in path.glob("*")
        if folder.is_dir() and folder.name[0] != "."
        for file in folder.rglob("*")
        if file.suffix.lower() not in SUFFIXES
        and file.name[0] != "."
        and not file.is_dir()
    )
    above = ["*", "*/*"][: depth + 1]
    stray = [f for pattern in above for f in path.glob(pattern)]
    stray = [f for f in stray if f.suffix.lower() in SUFFIXES]
    said = []
    if kinds:
        each = format_some([f"{n} {kind}" for kind, n in kinds.most_common()])
        said.append(
            f"{sum(kinds.values())} files in the folders of the classes are not read "
            f"({each}); images end in {', '.join(sorted(SUFFIXES))}"
        )
    images = [file.name for file in stray if not file.is_dir()]
    if images:
        said.append(
            f"{len(images)} images lie in no folder of a class and are not read "
            f"(such as {truncate(min(images))})"
        )
    return tuple(said)


class Sound(NamedTuple):
    """The images that decode, and what was seen of them."""

    names: list[str]
    skipped: tuple[str, ...]
    wide: bool
    """Whether one has 16 bits."""

    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def _sound(
    path: Path,
    names: Sequence[str],
    size: int,
    colours: Literal["rgb", "grey"],
    skip_broken: bool,
) -> Sound:
    """Decode every image once; return those that can be, and what they hold."""
    sound, broken, wide, peak = [], [], 0, 0
    remarks: dict[str, list[str]] = {}
    for name in names:
        try:
            found = decode_image(path / name, size, colours)
        except Exception as error:  # A damaged image raises anything.
            if not skip_broken:
                msg = (
                    f"{path / name} does not decode ({error}); repair or remove it, "
                    "or leave out all such images with skip_broken=true"
                )
                raise DataError(msg) from error
            broken.append(name)
            continue
        sound.append(name)
        wide += found.pixels.dtype == np.uint16
        peak = max(peak, found.peak)
        for remark in found.remarks:
            remarks.setdefault(remark, []).append(name)
    if not sound:
        msg = f"{path}: none of the {len(names)} images decodes"
        raise DataError(msg)
    warnings = [
        f"{len(those)} of {len(sound)} images (first {those[0]}) {remark}"
        for remark, those in remarks.items()
    ]
    if wide and peak < DIM:
        warnings.append(
            f"no 16-bit image has a value above {peak} of 65535: a model sees -1 to "
            f"{peak / 32767.5 - 1:.3f}; multiply the values to use the whole range"
        )
    return Sound(sound, tuple(broken), wide > 0, _notes(wide, sound), tuple(warnings))


def _notes(wide: int, sound: Sequence[str]) -> tuple[str, ...]:
    if not wide:
        return ()
    narrow = len(sound) - wide
    # Part of the manifest, and so of its hash: this text must not change.
    note = (
        f"{wide} of {len(sound)} pictures "  # codespell:ignore pictures
        "have grey of 16 bits: stored with 16 bits"
    )
    return (note + (f", the {narrow} of 8 bits times {WIDE}" if narrow else ""),)
