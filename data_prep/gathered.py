"""An input whose values come one sample at a time: numbers, arrays, tensors, images.

Values are spooled to a temporary file, so that memory does not hold them all.
"""

import hashlib
import sys
from array import array
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.images import colours_first, is_wide, move_colours, pixels_of
from data_prep.spool import Spool
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.number_types import BFLOAT16, pairs, to_bfloat16
from fedapm_mpi.data.table import Column
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value, truncate

Colours = Literal["rgb", "grey"]

SCALES = {"uint8": 1 / 127.5, "uint16": 1 / 32767.5}
"""By type of an image: what gives a model -1 to 1, after a shift by -1."""


class Gathered:
    """Gathers the values of one input.

    All have one type and one shape, but for the first axis, which is time where lengths
    differ. Images of Pillow, and bytes of two or three axes, have colours first.

    Parameters
    ----------
    name
        Of the input.
    size
        Width and height that images are scaled to; None where all are of one size.
    colours
        What images are turned into; None for grey if the first is grey, else ``rgb``.
    """

    def __init__(
        self, name: str, *, size: int | None = None, colours: Colours | None = None
    ) -> None:
        self.name = name
        self._size, self._colours = size, colours
        self._spool = Spool(f"the input {format_value(name)}")
        self._lengths = array("q")
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._bfloat16 = False
        self._image: bool | None = None
        self._digest = hashlib.sha256()

    def add(self, value: Any, where: str) -> None:
        """Add the value of a sample.

        Raises
        ------
        DataError
            If it is no number, array or image, or does not fit the others.
        """
        pixels = is_image(value)
        where = f"{where}: {format_value(self.name)}"
        if pixels:
            made = self._pixels(value, where)
        else:
            made = numbers(value, where, complex_numbers=True)
        if self._image is None:
            self._image, self._shape, self._dtype = pixels, made.shape, made.dtype
            self._bfloat16 = is_bfloat16(value)
        self._check(value, made, where)
        if self._bfloat16:
            made, self._dtype = to_bfloat16(made), np.dtype(np.uint16)
        stored = np.ascontiguousarray(made, self._dtype)
        self._spool.write(stored)
        self._digest.update(repr(stored.shape).encode())
        self._digest.update(stored.data if stored.size else b"")
        self._lengths.append(len(stored) if stored.ndim else 1)

    def hexdigest(self) -> str:
        """Return the SHA-256 of all values and their type."""
        digest = self._digest.copy()
        digest.update(f"{self.name} {self._type()} {self._image}".encode())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file; what is mapped stays."""
        self._spool.close()

    def column(self) -> Column:
        """Return the input; nothing can be added then."""
        lengths = np.array(self._lengths, np.int64)
        if self._shape and not self._image and len(set(self._lengths)) > 1:
            return self._ragged(lengths)
        values = self._spool.mapped(self._dtype, (len(lengths), *self._shape))
        shape, axis = self._shape, 1
        image = self._image or (self._dtype == np.uint8 and len(shape) in (2, 3))
        if image and not self._image:
            shape, axis = colours_first(shape)
        scale, shift = (SCALES[self._dtype.name], -1.0) if image else (1.0, 0.0)
        spec = replace(self._spec(shape), scale=scale, shift=shift)

        def take(rows: NDArray[np.int64]) -> NDArray[Any]:
            block: NDArray[Any] = values[rows]
            if spec.complex:
                return pairs(block)
            return move_colours(block, axis) if image else block

        return Column(spec, take)

    def _type(self) -> str:
        return BFLOAT16 if self._bfloat16 else self._dtype.name

    def _spec(self, shape: tuple[int, ...]) -> InputSpec:
        """Return the input's type, and a shape."""
        if self._dtype.kind == "c":
            part = f"float{4 * self._dtype.itemsize}"
            return InputSpec(self.name, shape, part, complex=True)
        return InputSpec(self.name, shape, self._type())

    def _ragged(self, lengths: NDArray[np.int64]) -> Column:
        shape = (int(lengths.max()), *self._shape[1:])
        values = self._spool.mapped(self._dtype, (int(lengths.sum()), *shape[1:]))
        starts = np.cumsum(lengths) - lengths
        spec = replace(self._spec(shape), ragged=True)

        def take(rows: NDArray[np.int64]) -> NDArray[Any]:
            block = np.zeros((len(rows), *shape), values.dtype)
            for target, row in zip(block, rows.tolist(), strict=True):
                own = values[starts[row] : starts[row] + lengths[row]]
                target[: len(own)] = own
            return pairs(block) if spec.complex else block

        return Column(spec, take, lengths)

    def _pixels(self, held: Any, where: str) -> NDArray[Any]:
        """Return the values of an image of Pillow."""
        if self._colours is None:
            grey = held.mode in ("1", "L", "LA") or is_wide(held)
            self._colours = "grey" if grey else "rgb"
        try:
            return pixels_of(held, self._size, self._colours)[0]
        except (ValueError, OSError) as error:
            msg = f"{where} does not decode ({error}); leave this sample out"
            raise DataError(msg) from error

    def _check(self, value: Any, made: NDArray[Any], where: str) -> None:
        """Refuse a value that does not fit those before."""
        pixels = is_image(value)
        if pixels != self._image:
            kinds = ("an image", "an array") if pixels else ("an array", "an image")
            msg = (
                f"{where} is {kinds[0]}, where earlier samples have {kinds[1]}; give "
                "one kind for all"
            )
            raise DataError(msg)
        if 0 in made.shape:
            msg = (
                f"{where} has shape {made.shape}, so there are no numbers; leave this "
                "sample out"
            )
            raise DataError(msg)
        if pixels and made.shape != self._shape:
            msg = (
                f"{where} has {made.shape[2]} x {made.shape[1]} pixels, earlier images "
                f"{self._shape[2]} x {self._shape[1]}; set size=N to scale all of them"
            )
            raise DataError(msg)
        if made.shape[1:] != self._shape[1:] or made.ndim != len(self._shape):
            msg = (
                f"{where} has shape {made.shape}, earlier samples {self._shape}; only "
                "the length of the first axis may differ"
            )
            raise DataError(msg)
        if self._bfloat16:
            kept = is_bfloat16(value)
        else:
            kept = np.can_cast(made.dtype, self._dtype, "no" if pixels else "safe")
        if not kept:
            msg = (
                f"{where} is {made.dtype}, in earlier samples {self._type()}; give all "
                "of one type"
            )
            raise DataError(msg)


def is_image(value: Any) -> bool:
    """Return whether a value is an image of Pillow."""
    pillow = sys.modules.get("PIL.Image")  # there is none before it is imported
    return pillow is not None and isinstance(value, pillow.Image)


def is_bfloat16(value: Any) -> bool:
    """Return whether a value is a tensor of bfloat16."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return False
    return bool(value.dtype == torch.bfloat16)


def as_array(value: Any) -> NDArray[Any]:
    """Return a value, such as a tensor, as an array; bfloat16 as float32."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return np.asarray(value)
    plain = value.detach().cpu().resolve_conj().resolve_neg()
    return np.asarray((plain.float() if is_bfloat16(plain) else plain).numpy())


def numbers(value: Any, where: str, *, complex_numbers: bool = False) -> NDArray[Any]:
    """Return a number, a list of numbers, an array or a tensor as an array.

    Raises
    ------
    DataError
        If it is anything else, or complex without `complex_numbers`.
    """
    try:
        made = as_array(value)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        msg = f"{where} is no array ({truncate(str(error))}); give one of numbers"
        raise DataError(msg) from error
    if np.ma.is_masked(value):
        msg = f"{where} has masked values; fill them"
        raise DataError(msg)
    plain = "biufc" if complex_numbers else "biuf"
    if made.dtype.kind not in plain or made.real.dtype.itemsize > 8:
        msg = (
            f"{where} is {_described(value, made)}, not numbers; give codes or "
            "features, or leave it out of the inputs"
        )
        raise DataError(msg)
    if made.dtype == bool:
        return made.astype(np.uint8)
    return made.astype(made.dtype.newbyteorder("="), copy=False)


def _described(value: Any, made: NDArray[Any]) -> str:
    if isinstance(value, str):
        return f"the text {format_value(value)}"
    of = f" of {made.dtype}" if made.dtype != object else ""
    return f"a {type(value).__name__}{of}"
