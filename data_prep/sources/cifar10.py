"""CIFAR-10 in its published Python archive."""

import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.download import Remote
from data_prep.sources.base import Source, find, sources
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.errors import DataError

ARCHIVE = "cifar-10-python.tar.gz"
REMOTE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ARCHIVE,
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = "test_batch"
META = "batches.meta"


@sources.register("cifar10")
def cifar10(path: Path) -> Source:
    """Read CIFAR-10 from the Python archive or its folder: 60 000 images.

    Each client's samples keep the published split; with ``split=random`` train and test
    are pooled, as in the paper. There are no natural clients. A model sees (x / 255 -
    0.5) / 0.5.

    Split: its own, the published one.

    Parameters
    ----------
    path
        ``cifar-10-python.tar.gz``, the extracted ``cifar-10-batches-py``, or a folder
        that holds either.

    References
    ----------
    Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """
    files, members = _members(path)
    images, labels = [], []
    for name in (*TRAIN, TEST):
        x, y = _batch(path, name, members)
        images.append(x)
        labels.append(y)
    meta = _load(path, META, members)
    classes = meta.get(b"label_names", [])
    if not isinstance(classes, list) or not all(type(n) is bytes for n in classes):
        msg = f"{path}: {META} does not hold the names of the classes; get it again"
        raise DataError(msg)
    split = np.repeat(
        np.array([0] * len(TRAIN) + [1], np.int8), [len(y) for y in labels]
    )
    return Source(
        table=Table(
            dataset="cifar10",
            columns=[
                column("image", np.concatenate(images), scale=1 / 127.5, shift=-1.0)
            ],
            labels=np.concatenate(labels),
            classes=tuple(name.decode() for name in classes),
        ),
        files=files,
        split=split,
    )


def _members(path: Path) -> tuple[tuple[Path, ...], dict[str, bytes]]:
    """Return the files read, and the archive's members by name."""
    wanted = (*TRAIN, TEST, META)
    for folder in (path, path / FOLDER):
        if all((folder / name).is_file() for name in wanted):
            files = tuple(folder / name for name in wanted)
            return files, {file.name: file.read_bytes() for file in files}
    file = find(path, (ARCHIVE,), "CIFAR-10's Python archive or folder")
    members = {}
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                name = Path(member.name).name
                inside = archive.extractfile(member) if name in wanted else None
                if inside:
                    members[name] = inside.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        msg = f"cannot read {file} ({error}); get it with 'fedapm download cifar10 DIR'"
        raise DataError(msg) from error
    return (file,), members


def _batch(
    path: Path, name: str, members: dict[str, bytes]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _load(path, name, members)
    x, y = batch.get(b"data"), batch.get(b"labels")
    if (
        not isinstance(x, np.ndarray)
        or not isinstance(y, list)
        or x.dtype != np.uint8
        or x.shape != (len(y), 3 * 32 * 32)
    ):
        msg = f"{path}: {name} does not hold images of 3 x 32 x 32 with labels"
        raise DataError(msg)
    odd = [row for row, one in enumerate(y) if type(one) is not int]
    if odd:
        msg = f"{path}: {name} has the label {y[odd[0]]!r} for image {odd[0]}"
        raise DataError(msg)
    return x.reshape(-1, 3, 32, 32), np.array(y, np.int64)


def _load(path: Path, name: str, members: dict[str, bytes]) -> dict[bytes, Any]:
    if name not in members:
        msg = f"{path} lacks {name}; get it with 'fedapm download cifar10 DIR'"
        raise DataError(msg)
    try:
        batch = _ArraysOnly(io.BytesIO(members[name]), encoding="bytes").load()
    except Exception as error:  # A damaged pickle raises anything.
        msg = f"{path}: {name} is damaged ({error}); get it again"
        raise DataError(msg) from error
    if not isinstance(batch, dict):
        msg = f"{path}: {name} holds a {type(batch).__name__}, not a batch"
        raise DataError(msg)
    return batch


def _dtype(name: Any, align: Any = False, copy: Any = False) -> np.dtype[Any]:
    # Python 2 wrote the flags as 0 and 1, which NumPy is about to refuse.
    made: np.dtype[Any] = np.dtype(name, bool(align), bool(copy))
    return made


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain values and NumPy arrays, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "_reconstruct": np.empty(0).__reduce__()[0],
            "ndarray": np.ndarray,
            "dtype": _dtype,
        }
        if module.split(".")[0] != "numpy" or name not in allowed:
            msg = f"it asks for {module}.{name}"
            raise pickle.UnpicklingError(msg)
        return allowed[name]
