"""Fashion-MNIST in its idx files, such as those of Debian's dataset-fashion-mnist."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.sources.base import Source, find, sources
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.errors import DataError

PARTS = ("train", "t10k")
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@sources.register("fashion-mnist")
def fashion_mnist(path: Path) -> Source:
    """Read the four idx files of Fashion-MNIST, gzipped or not: 70 000 images.

    Each client's samples keep the published split; ``split=random`` pools both parts.
    There are no natural clients. A model sees values from -1 to 1.

    Split: its own, the published one.

    Parameters
    ----------
    path
        The folder that holds the files, such as /usr/share/datasets/fashion-mnist.

    References
    ----------
    Xiao, Rasul and Vollgraf (2017), Fashion-MNIST: a novel image dataset for
    benchmarking machine learning algorithms, arXiv:1708.07747.
    """
    files: list[Path] = []
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    for part in PARTS:
        for kind, axes, into in (("images", 3, images), ("labels", 1, labels)):
            stem = f"{part}-{kind}-idx{axes}-ubyte"
            if not path.is_dir():
                msg = f"{path} is not a folder; give the one that holds {stem}.gz"
                raise DataError(msg)
            names = (f"{stem}.gz", stem, f"{part}-{kind}.idx{axes}-ubyte")
            file = find(path, names, "the folder of Fashion-MNIST")
            into.append(read_idx(file, axes))
            files.append(file)
        if len(images[-1]) != len(labels[-1]):
            msg = (
                f"{path}: {len(images[-1])} {part} images but {len(labels[-1])} "
                "labels; get the four files of one release"
            )
            raise DataError(msg)
    image = np.concatenate(images)[:, None]
    split = np.repeat(np.arange(2, dtype=np.int8), [len(part) for part in labels])
    return Source(
        table=Table(
            dataset="fashion-mnist",
            columns=[column("image", image, scale=1 / 127.5, shift=-1.0)],
            labels=np.concatenate(labels),
            classes=CLASSES,
        ),
        files=tuple(files),
        split=split,
    )


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes; gzipped if its name ends so.

    Raises
    ------
    DataError
        If it is not such a file or has more or fewer bytes than it says.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"cannot read {path} ({error}); get it again"
        raise DataError(msg) from error
    # Two zero bytes, the type (8 for unsigned bytes), the number of axes.
    if raw[:4] != bytes([0, 0, 8, axes]):
        msg = (
            f"{path} is not an idx file of unsigned bytes with {axes} axes: "
            f"it begins with {raw[:4].hex()}; get it again"
        )
        raise DataError(msg)
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", raw[4:start].ljust(start - 4, b"\0"))
    if len(raw) - start != np.prod(shape, dtype=np.int64):
        msg = (
            f"{path} has {max(0, len(raw) - start)} bytes of data, its header says "
            f"{shape}; get it again"
        )
        raise DataError(msg)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
