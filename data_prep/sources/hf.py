"""A data set of the library ``datasets``: saved on disk, or as Arrow or parquet files.

Files are read by pyarrow, as tables are; the library itself is not needed. Nothing is
downloaded: ``fedapm download hf:OWNER/NAME DIR`` gets files from the hub.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.sample_fields import PARTS
from data_prep.sources._hf_columns import class_names, kinds_of, read_saved
from data_prep.sources._hf_files import Saved, find_saved
from data_prep.sources.base import Source, sources
from data_prep.table_encoding import Encode, Missing
from data_prep.table_roles import Roles, source_of
from data_prep.targets import Kind
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.text import format_some, format_value

LABEL = "label"
"""The target, if a column of this name is there and several, or none, have classes."""


@sources.register("hf")
def hf(
    path: Path,
    *,
    target: str | tuple[str, ...] | None = None,
    kind: Kind | None = None,
    client: str | tuple[str, ...] | None = None,
    group: str | None = None,
    split_column: str | None = None,
    weight: str | None = None,
    incomplete: bool = False,
    inputs: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
    ordinal: dict[str, tuple[str, ...]] | None = None,
    ids: tuple[str, ...] = (),
    missing: Missing = "refuse",
    scale: Literal["pooled", "none"] = "pooled",
    parts: tuple[str, ...] = (),
    size: int | None = None,
    colours: Literal["rgb", "grey"] | None = None,
) -> Source:
    """Read what ``datasets`` saved on disk, or a folder of Arrow or parquet files.

    Columns of numbers, texts, dates and classes become one input as in ``table``; each
    column of images, or of lists of numbers, is an input of its own.

    Split: its parts train, test and validation, or that of the column `split_column`.

    Parameters
    ----------
    path
        A folder that ``save_to_disk`` wrote, a folder of files, or a file. Without the
        former, names of files and their folders say which part they are.
    target
        The column that models are to give; several of a list. By default the only one
        with classes, else ``label``.
    kind, client, group, split_column, weight, incomplete, inputs, drop
        As in ``table``.
    ordinal, ids, missing, scale
        As in ``table``.
    parts
        Parts that are read, such as ``[train, test]``; all by default.
    size
        Width and height that images are scaled to; as they are by default.
    colours
        ``rgb`` or ``grey``; by default what the first image is.

    Raises
    ------
    ConfigError
        If `size` is not positive, or a library is not installed.
    DataError
        If a file, a part or a column is not there or cannot be read.
    """
    if size is not None and size < 1:
        msg = f"size must be at least 1, got {size}"
        raise ConfigError(msg)
    saved = find_saved(path, parts)
    kinds = kinds_of(saved)
    roles = Roles(
        target=_target(path, saved, target),
        kind=kind,
        client=client,
        group=group,
        split_column=split_column,
        inputs=inputs,
        drop=drop,
        encode=Encode(
            missing=missing,
            scaled=scale == "pooled",
            ordinal=ordinal or {},
            ids=ids,
        ),
        weight=weight,
        incomplete=incomplete,
    )
    _check(path, saved, roles, kinds)
    wanted = {*roles.named(), *roles.chosen(saved.columns)}
    read = read_saved(saved, kinds, list(wanted), roles.as_text(), size, colours)
    dataset = path.stem if path.is_file() else path.resolve().name
    made = source_of(
        read.columns, saved.columns, roles, dataset, str(path), read.arrays
    )
    split = made.split
    if len(saved.parts) > 1:
        codes = np.array([PARTS[part] for part in saved.parts], np.int8)
        split = np.repeat(codes, read.counts)
    return replace(
        made,
        files=(*made.files, *saved.others),
        split=split,
        warnings=(*made.warnings, *read.remarks),
    )


def _target(
    path: Path, saved: Saved, target: str | tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the columns of the target, as given or found."""
    if target is not None:
        return (target,) if isinstance(target, str) else tuple(target)
    found = [name for name in saved.columns if class_names(saved.features.get(name))]
    if len(found) == 1:
        return (found[0],)
    if LABEL in saved.columns:
        return (LABEL,)
    what = f"several have classes ({format_some(found)})" if found else "none has some"
    msg = (
        f"{path}: the target is not the only column with classes, as {what}; name it "
        f"with target=COLUMN (columns: {format_some(list(saved.columns))})"
    )
    raise DataError(msg)


def _check(path: Path, saved: Saved, roles: Roles, kinds: Mapping[str, object]) -> None:
    """Check roles before anything is read."""
    roles.check(str(path), saved.columns)
    if roles.split_column is not None and len(saved.parts) > 1:
        msg = (
            f"{path} has parts of its own ({format_some(sorted(saved.parts))}); leave "
            "split_column out, or choose one of them with parts=[NAME]"
        )
        raise ConfigError(msg)
    for name in (*roles.target, *roles.texts(), *roles.numbers()):
        if kinds[name] in ("array", "image"):
            msg = (
                f"{path}: column {format_value(name)} has {kinds[name]}s, which can "
                "only be inputs; name a column with one number or text a row"
            )
            raise DataError(msg)
