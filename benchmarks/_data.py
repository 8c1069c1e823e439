"""What the data sets of several studies share: arrays from raw files, and images."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.pipeline import plan, prepare
from fedapm_mpi.data.manifest import Manifest

Arrays = dict[str, NDArray[Any]]

TRAIN, TEST, VAL, LEFT_OUT = 0, 1, 2, -1
"""Parts that a sample may belong to, as the source `arrays` has them."""


class Wanted(NamedTuple):
    """One data set: its raw file, and how it is made."""

    raw: str
    read: Callable[[Path], Arrays] | None = None
    """Returns the arrays; None if the raw file has them already."""

    values: Mapping[str, Any] = {}
    """Options for `data_prep.pipeline.plan`."""


class CommandLine(NamedTuple):
    """What a command that writes data sets is asked for."""

    directory: Path
    folders: list[Path]
    """Where raw files are."""

    only: list[str]
    """Names, or patterns of names."""

    def wants(self, name: str) -> bool:
        """Return whether a data set is asked for."""
        return any(fnmatchcase(name, pattern) for pattern in self.only)


def read_command_line(about: str | None) -> CommandLine:
    """Return what is asked for; `about` is what the command says of itself."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write")
    parser.add_argument(
        "--from", dest="folders", type=Path, nargs="+", required=True, metavar="FOLDER"
    )
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="NAME", help="names, or patterns"
    )
    return CommandLine(**vars(parser.parse_args()))


def find(folders: Iterable[Path], name: str) -> Path | None:
    """Return the first file of this name in or below the folders."""
    for folder in folders:
        for path in sorted(folder.rglob(name)):
            return path
    return None


def described(manifest: Manifest) -> str:
    """Return the clients of a data set, and its samples by part."""
    counts = ", ".join(f"{n.sum()} {split}" for split, n in manifest.counts.items())
    return f"{manifest.num_clients} clients, {counts}"


def write_all(about: str | None, wanted: Mapping[str, Wanted]) -> None:
    """Read the command line, and prepare each data set whose raw file is there.

    Parameters
    ----------
    about
        What the command says of itself.
    wanted
        By name.
    """
    args = read_command_line(about)
    width = max(map(len, wanted)) + 2
    for name, one in wanted.items():
        if not args.wants(name):
            continue
        raw = find(args.folders, one.raw)
        if raw is None:
            print(f"{name:<{width}}left out: {one.raw} was not found")
            continue
        path = raw if one.read is None else args.directory / "raw" / f"{name}.npz"
        if one.read is not None:
            save(path, one.read(raw))
        manifest, _ = prepare(
            plan("arrays", dict(one.values)), path, args.directory / name
        )
        print(f"{name:<{width}}{described(manifest)}", flush=True)


def save(path: Path, arrays: Arrays) -> None:
    """Write arrays without the samples that are left out."""
    kept = arrays["split"] != LEFT_OUT
    path.parent.mkdir(parents=True, exist_ok=True)
    stored: Any = {key: value[kept] for key, value in arrays.items()}
    np.savez(path, **stored)


def images_of_clients(
    images: Arrays,
    beta: float,
    clients: int,
    counts: Mapping[int, int],
    pools: Mapping[tuple[int, int], list[int]],
    rng: np.random.Generator,
) -> Arrays:
    """Return images at half the width, labels of each client drawn from Dir(β).

    Parameters
    ----------
    images
        ``x_image``, (n, 32, 32, 3), and ``y``.
    beta
        Of the Dirichlet distribution.
    clients
        Their number.
    counts
        Images of a client, by part.
    pools
        Rows to take from, the last first, by label and part; they become shorter.
    rng
        Generator of the draws.
    """
    labels = len(images["class_names"])
    chosen, owners, split = [], [], []
    for client in range(clients):
        shares = rng.dirichlet([beta] * labels)
        for part, count in counts.items():
            for k in rng.choice(labels, count, p=shares):
                chosen.append(pools[int(k), part].pop())
                owners.append(client)
                split.append(part)
    wide = images["x_image"][chosen].astype(np.float64)
    small = wide.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4)) / 127.5 - 1
    return {"x_image": small.astype(np.float32), "y": images["y"][chosen],
            "client": np.array(owners), "split": np.array(split)}  # fmt: skip
