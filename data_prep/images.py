"""Images as arrays with all their bits, and remarks on what is lost.

A file is opened only if it is a regular one: opening a named pipe blocks.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.regular_files import check_regular
from fedapm_mpi.errors import ConfigError

CHANNELS = {"rgb": ("RGB", 3), "grey": ("L", 1)}
WIDE = 257
"""What an 8-bit value is multiplied by to have 16 bits: 255 becomes 65535."""

MULTIPLE = "hold several frames or pages: the first is used"
TRANSPARENT = "have transparent pixels: their colours are kept, transparency is not"
REDUCED = (
    "have colours of 16 bits, of which Pillow reads the upper 8; of 16-bit images "
    "only grey ones keep all bits"
)


class DecodedImage(NamedTuple):
    """A decoded image."""

    pixels: NDArray[Any]
    """(channels, height, width), uint8, or uint16 if the file has grey of 16 bits."""

    peak: int
    """Largest value in the file if it has 16 bits; 0 if it has not."""

    remarks: tuple[str, ...]
    """What is not in `pixels`, each to be put after the number of such images."""


def pillow() -> Any:
    """Return Pillow's module ``Image``.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        msg = (
            "images need Pillow, which is not installed: install it with "
            "pip install 'fedapm-mpi[vision]'"
        )
        raise ConfigError(msg) from error
    return Image


def decode_image(
    file: Path, size: int, colours: Literal["rgb", "grey"]
) -> DecodedImage:
    """Decode an image, turned as its EXIF says and scaled to size × size.

    Raises
    ------
    ValueError, OSError
        Or anything else that Pillow raises, if the file can't be used.
    """
    with turned(file) as (held, remarks):
        return DecodedImage(*pixels_of(held, size, colours), remarks)


@contextmanager
def turned(file: Path | bytes) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Open an image as its EXIF turns it; yield it, and what will not be kept of it.

    Raises
    ------
    ValueError, OSError
        Or anything else that Pillow raises, if it can't be used.
    """
    with opened(file) as held:
        from PIL import ImageOps

        remarks = _remarks(held)
        yield ImageOps.exif_transpose(held), remarks


def pixels_of(
    held: Any, size: int | None, colours: Literal["rgb", "grey"]
) -> tuple[NDArray[Any], int]:
    """Return an image of Pillow as an array, and its largest value if it has 16 bits.

    Parameters
    ----------
    held
        The image.
    size
        Width and height that it is scaled to; None leaves it as it is.
    colours
        ``rgb`` or ``grey``.

    Returns
    -------
    NDArray
        (channels, height, width), uint8, or uint16 if the image has grey of 16 bits.
    int
        0 if it has 8 bits.
    """
    image = pillow()
    mode, channels = CHANNELS[colours]
    smooth = image.Resampling.BILINEAR
    if not is_wide(held):
        scaled = held.convert(mode)
        if size is not None:
            scaled = scaled.resize((size, size), smooth)
        pixels = np.asarray(scaled)
        return pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1), 0
    values = wide_values(held)
    grey = values
    if size is not None:
        # As floats, which hold 16 bits exactly and which every Pillow can resize.
        wide = image.fromarray(values.astype(np.float32)).resize((size, size), smooth)
        grey = np.clip(np.rint(np.asarray(wide)), 0, 2**16 - 1).astype(np.uint16)
    return np.repeat(grey[None], channels, axis=0), int(values.max(initial=0))


def eight_bits(file: Path) -> Any:
    """Return an image as Pillow's RGB; of 16-bit grey the values divided by 257."""
    image = pillow()
    with opened(file) as held:
        if not is_wide(held):
            return held.convert("RGB")
        values = wide_values(held)
    return image.fromarray(np.rint(values / WIDE).astype(np.uint8)).convert("RGB")


def is_wide(held: Any) -> bool:
    """Return whether an image's mode has more than 8 bits for each value."""
    return str(held.mode)[:1] in ("F", "I")


def wide_values(held: Any) -> NDArray[np.uint16]:
    """Return the values (height, width) of an image of 16 bits.

    Raises
    ------
    ValueError
        If it has other values than whole numbers from 0 to 65535.
    """
    if held.mode == "F":
        msg = "its pixels are floats of unknown range; save them as 8 or 16 bits"
        raise ValueError(msg)
    values = np.asarray(held)
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    if least < 0 or most >= 2**16:
        msg = f"its values go from {least} to {most}; scale them to 16 bits, 0 to 65535"
        raise ValueError(msg)
    return values.astype(np.uint16)


@contextmanager
def opened(file: Path | bytes) -> Iterator[Any]:
    """Open an image, from a file or its bytes; it is decoded when it is used.

    Raises
    ------
    ValueError
        If it is not a regular file, or may be a decompression bomb: it has more pixels
        than Pillow's limit.
    """
    image = pillow()
    if isinstance(file, Path):
        check_regular(file)
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    with warnings.catch_warnings():
        # Pillow warns of harmless things as well, such as odd EXIF entries.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", image.DecompressionBombWarning)
        try:
            with image.open(source) as held:
                yield held
        except (image.DecompressionBombWarning, image.DecompressionBombError):
            msg = f"it has more than {image.MAX_IMAGE_PIXELS} pixels; make it smaller"
            raise ValueError(msg) from None


def _remarks(held: Any) -> tuple[str, ...]:
    """Return what of an image will not be in the array."""
    found = []
    with suppress(Exception):  # Of a later page that is damaged, and is not used.
        if getattr(held, "n_frames", 1) > 1:
            found.append(MULTIPLE)
    if _reduced(held):
        found.append(REDUCED)
    if _transparent(held):
        found.append(TRANSPARENT)
    return tuple(found)


def _reduced(held: Any) -> bool:
    """Return whether Pillow reads fewer bits than the file has."""
    if is_wide(held) or held.format == "BMP":  # Its 16 bits are of all colours.
        return False
    for tile in held.tile:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if re.search(r";(16|32)", str(arguments[0])):
            return True
        if held.format == "PPM" and len(arguments) > 1 and arguments[1] > 255:
            return True
    return False


def _transparent(held: Any) -> bool:
    if held.mode not in ("RGBA", "LA"):
        if held.mode not in ("PA", "RGBa", "La") and "transparency" not in held.info:
            return False
        if is_wide(held):
            return False
        held = held.convert("RGBA")
    return bool(held.getchannel("A").getextrema()[0] < 255)


def colours_first(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Return an image's shape with colours first, and the axis where they are."""
    if len(shape) == 2:
        return (1, *shape), 0
    if shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        return (shape[2], *shape[:2]), 3
    return shape, 1


def move_colours(block: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return images with colours first that have them in an axis, 0 if in none."""
    return block[:, None] if axis == 0 else np.moveaxis(block, axis, 1)
