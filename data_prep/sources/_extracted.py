"""Features that ``fedapm extract`` has made, as a source."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.feature_extraction import FEATURES, ITEMS, SCHEMA
from data_prep.regular_files import regular
from data_prep.sources.base import Source
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.errors import DataError


def extracted(path: Path, dataset: str) -> Source:
    """Return a folder of features as a source; the arrays stay on disk.

    Parameters
    ----------
    path
        The folder that ``fedapm extract`` has written.
    dataset
        Name of the data set that they must have.

    Raises
    ------
    DataError
        If it is no such folder, or one that is not finished or damaged.
    """
    said = _read(path, dataset)
    try:
        return _source(path, dataset, said)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        msg = f"{path} is damaged ({what}); extract its features again"
        raise DataError(msg) from error


def _source(path: Path, dataset: str, said: dict[str, Any]) -> Source:
    folders = [path / f"chunk-{k:05d}" for k in range(said["chunks"])]
    sizes = [
        len(json.loads((folder / ITEMS).read_text("utf-8"))["kept"])
        for folder in folders
    ]
    columns = [
        _column(name, longest, width, folders, sizes)
        for name, (longest, width) in said["inputs"].items()
    ]
    if sum(sizes) != len(said["names"]):
        msg = f"{path} is damaged: its chunks hold {sum(sizes)} items; extract again"
        raise DataError(msg)
    clients, groups, splits = (said.get(k) for k in ("clients", "groups", "splits"))
    names: list[str] = sorted(set(clients or ()))
    numbers = {name: number for number, name in enumerate(names)}
    return Source(
        table=Table(
            dataset=dataset,
            columns=columns,
            labels=np.asarray(said["labels"]),
            classes=tuple(said["classes"]),
        ),
        files=(path / FEATURES, *(f for d in folders for f in sorted(d.iterdir()))),
        ids=np.array([numbers[name] for name in clients]) if clients else None,
        id_names=tuple(names),
        groups=np.unique(groups, return_inverse=True)[1] if groups else None,
        split=np.asarray(splits) if splits else None,
        default_split="own" if splits else "random",
        skipped=tuple(said["skipped"]),
    )


def _read(path: Path, dataset: str) -> dict[str, Any]:
    try:
        said: Any = json.loads(regular(path / FEATURES).read_text("utf-8"))
    except OSError as error:
        msg = (
            f"{path} holds no finished features: make or continue them with "
            f"'fedapm extract {dataset} --from ARCHIVE --to {path}'"
        )
        raise DataError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path / FEATURES} is damaged ({error}); extract again"
        raise DataError(msg) from error
    if not isinstance(said, dict):
        msg = f"{path / FEATURES} is damaged (no JSON object); extract again"
        raise DataError(msg)
    if said.get("schema_version") != SCHEMA or said.get("dataset") != dataset:
        msg = (
            f"{path} holds features of {said.get('dataset')!r} (schema "
            f"{said.get('schema_version')!r}), not of {dataset!r} (schema {SCHEMA})"
        )
        raise DataError(msg)
    made: dict[str, Any] = said
    return made


def _column(
    name: str,
    longest: int | None,
    width: int,
    folders: list[Path],
    sizes: list[int],
) -> Column:
    """Return one input, whose arrays are opened as they are needed."""
    first = np.cumsum([0, *sizes])
    if longest is None:
        spec = InputSpec(name, (width,), "float32")
        return Column(spec, _vectors(name, folders, first, width))
    each = [np.load(d / f"{name}.length.npy").astype(np.int64) for d in folders]
    lengths = np.concatenate(each)
    starts = np.concatenate([np.cumsum(n) - n for n in each])
    spec = InputSpec(name, (int(lengths.max()), width), "float32", ragged=True)

    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        block = np.zeros((len(rows), *spec.shape), np.float32)
        chunks = np.searchsorted(first, rows, side="right") - 1
        for chunk in np.unique(chunks).tolist():
            values = np.load(folders[chunk] / f"{name}.npy", mmap_mode="r")
            for place in np.flatnonzero(chunks == chunk).tolist():
                row = rows[place]
                steps = values[starts[row] : starts[row] + lengths[row]]
                block[place, : lengths[row]] = steps
        return block

    return Column(spec, take, lengths)


def _vectors(
    name: str, folders: list[Path], first: NDArray[np.int64], width: int
) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        block = np.zeros((len(rows), width), np.float32)
        chunks = np.searchsorted(first, rows, side="right") - 1
        for chunk in np.unique(chunks).tolist():
            values = np.load(folders[chunk] / f"{name}.npy", mmap_mode="r")
            places = np.flatnonzero(chunks == chunk)
            block[places] = values[rows[places] - first[chunk]]
        return block

    return take
