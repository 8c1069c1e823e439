"""Read the NumPy arrays of an .npz or a folder one by one, without pickle."""

import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.regular_files import regular
from data_prep.unused_inputs import unused
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import truncate

Arrays = dict[str, NDArray[Any]]
FIXED = ("y", "client", "split", "weight", "class_names", "target_names", "length")


class Saved(NamedTuple):
    """The arrays that are read, and the names of the others."""

    arrays: Arrays
    others: tuple[str, ...]
    files: tuple[Path, ...]


def read_arrays(path: Path, wanted: Callable[[str, tuple[str, ...]], bool]) -> Saved:
    """Read the wanted arrays of an .npz file, or of a folder of .npy, mapped.

    Parameters
    ----------
    path
        The file or the folder.
    wanted
        From a name, and all names, to whether the array is read.

    Raises
    ------
    DataError
        If it is neither, or a wanted array is damaged, there twice, of Python objects,
        or no array.
    """
    try:
        if path.is_dir():
            return _folder(path, wanted)
        with regular(path).open("rb") as file:
            archive = np.load(file)
            if isinstance(archive, np.ndarray):
                msg = f"{path} is a single array; give an .npz file or a folder of .npy"
                raise DataError(msg)
            return _archive(path, archive, wanted)
    except DataError:
        raise
    except FileNotFoundError:
        msg = f"{path} does not exist; give the .npz file with --from"
        raise DataError(msg) from None
    except Exception as error:  # NumPy and zipfile raise many kinds for damage.
        said = truncate(str(error).partition("\n")[0])
        if _no_array(error):
            said = "it is neither an .npz nor an .npy file"
        msg = (
            f"cannot read {path} ({said}); it must be an .npz file, or a folder of "
            ".npy files, without pickled objects"
        )
        raise DataError(msg) from error


def _folder(path: Path, wanted: Callable[[str, tuple[str, ...]], bool]) -> Saved:
    files = tuple(sorted(f for f in path.glob("*.npy") if not f.is_dir()))
    for file in files:
        regular(file)
    if not files:
        msg = f"{path} holds no .npy files; give an .npz file or such a folder"
        raise DataError(msg)
    names = tuple(file.stem for file in files)
    found = {}
    for file in files:
        if wanted(file.stem, names):
            found[file.stem] = _array(
                path,
                file.stem,
                partial(np.load, file, mmap_mode="r"),
            )
    return Saved(found, tuple(n for n in names if n not in found), files)


def _archive(
    path: Path, archive: Any, wanted: Callable[[str, tuple[str, ...]], bool]
) -> Saved:
    members = [name.removesuffix(".npy") for name in archive.zip.namelist()]
    times = Counter(members)
    names = tuple(times)
    found = {}
    for name in names:
        if not wanted(name, names):
            continue
        if times[name] > 1:
            msg = f"{path} holds the array {name!r} twice; save the file again"
            raise DataError(msg)
        found[name] = _array(path, name, partial(archive.__getitem__, name))
    return Saved(found, tuple(n for n in names if n not in found), (path,))


def _array(path: Path, name: str, load: Callable[[], Any]) -> NDArray[Any]:
    """Return one array; an error names the one that cannot be read."""
    try:
        values = load()
    except (DataError, MemoryError):
        raise
    except Exception as error:
        # Refused without a look at the pickle, which could run code.
        objects = "allow_pickle" in str(error) or "Python objects" in str(error)
        objects = objects and not _no_array(error)
        kind = "int" if name.startswith(("length", "split")) else "str"
        kind = "np.float32" if name.startswith("x_") or name == "weight" else kind
        if objects:
            msg = (
                f"{path}: {name!r} holds Python objects, which cannot be read without "
                f"running code; save it without pickled objects, as "
                f"np.asarray({name}, dtype={kind})"
            )
        else:
            said = truncate(str(error).partition("\n")[0])
            said = "it is not an .npy file" if _no_array(error) else said
            msg = f"cannot read {name!r} of {path} ({said}); save it again"
        raise DataError(msg) from error
    if not isinstance(values, np.ndarray):
        with suppress(AttributeError, zipfile.BadZipFile):
            values.close()
        msg = f"{path}: {name!r} is not an array; save it with np.save or np.savez"
        raise DataError(msg)
    return values


def _no_array(error: Exception) -> bool:
    """Return whether NumPy would read the file as a pickle."""
    return "This file contains pickled" in str(error)


def is_read(
    key: str, names: tuple[str, ...], *, inputs: tuple[str, ...], group: str | None
) -> bool:
    """Return whether an array is read, by its name and the existing ones."""
    if key in FIXED or key == group:
        return True
    if key.startswith("x_"):
        # A wrong name in `inputs` is refused with the nearest of all.
        known = all(f"x_{name}" in names for name in inputs)
        return not inputs or not known or key.removeprefix("x_") in inputs
    of_input = {f"x_{key.removeprefix('length_')}"} if key[:7] == "length_" else set()
    if key.endswith(("_scale", "_shift", "_codes")):
        of_input.add(f"x_{key[:-6]}")
    return bool(of_input & set(names))


def unread_arrays(
    path: Path, found: Arrays, others: tuple[str, ...]
) -> tuple[str, ...]:
    """Return a sentence on unused arrays, except inputs that were left out."""
    inputs = [key.removeprefix("x_") for key in found if key.startswith("x_")]
    known = [*FIXED, *found]
    for name in inputs:
        known += [f"length_{name}", f"{name}_scale", f"{name}_shift"]
    extra = [key for key in others if not key.startswith("x_")]
    return unused([*found, *extra], known, path.name, "array")
