"""Read the JSON files that LEAF's scripts write, of any data set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.regular_files import regular
from data_prep.sample_fields import MISSING, first_repeated
from data_prep.sources._siblings import unread_siblings
from data_prep.sources.base import Source
from fedapm_mpi.data.table import Table
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.strict_json import unique_keys
from fedapm_mpi.utils.text import format_value

SPLITS = ("train", "test")


class LeafSamples(NamedTuple):
    """All samples of a LEAF data set, in the order of files and users."""

    inputs: NDArray[Any]
    """(N, ...)."""

    labels: NDArray[np.int64]
    """(N,)."""

    ids: NDArray[np.int64]
    """(N,) user of each sample."""

    id_names: tuple[str, ...]
    """Users, sorted."""

    split: NDArray[np.int8] | None
    """(N,) 0 for train and 1 for test, if LEAF has split the set."""

    files: tuple[Path, ...]

    default_split: Literal["random", "own"]
    """LEAF's own split if there is one."""

    warnings: tuple[str, ...]
    """On neighboring files of LEAF that were not read."""

    def as_source(self, table: Table) -> Source:
        """Return these samples, whose inputs and labels are in a table, as a source."""
        return Source(
            table=table,
            files=self.files,
            ids=self.ids,
            id_names=self.id_names,
            split=self.split,
            default_split=self.default_split,
            warnings=self.warnings,
        )


def read_leaf(
    path: Path,
    convert: Callable[[list[Any]], NDArray[Any]],
    label: Callable[[Any], int],
) -> LeafSamples:
    """Read all JSON files, one at a time.

    Parameters
    ----------
    path
        The folder that holds ``train`` and ``test``, or one in ``data`` that does, or a
        folder of JSON files that LEAF has not split.
    convert
        Makes an array ``(n, ...)`` of a user's list of x; may raise `ValueError`.
    label
        Makes a label from 0 of a y; may raise `ValueError`.

    Raises
    ------
    DataError
        If there are no such files, or one is damaged; the message names it, and the
        user.
    """
    inputs: list[NDArray[Any]] = []
    labels: list[NDArray[np.int64]] = []
    users: list[str] = []
    codes: list[int] = []
    found = _files(path)
    for code, file in found:
        for user, x, y in _users(file):
            try:
                inputs.append(convert(x))
                labels.append(np.array([label(one) for one in y], np.int64))
            except (ValueError, TypeError, IndexError, OverflowError) as error:
                msg = (
                    f"{file}: user {format_value(user)} has a sample of another kind: "
                    f"{str(error)[:200]}"
                )
                raise DataError(msg) from error
            users.append(user)
            codes.append(code)
    names, owner = np.unique(np.array(users), return_inverse=True)
    sizes = [len(of_user) for of_user in labels]
    if not sum(sizes):
        msg = f"{path}: the files hold no samples; give another folder"
        raise DataError(msg)
    split = None if codes[0] < 0 else np.repeat(np.array(codes, np.int8), sizes)
    return LeafSamples(
        np.concatenate(inputs),
        np.concatenate(labels),
        np.repeat(owner, sizes),
        tuple(names.tolist()),
        split,
        tuple(file for _, file in found),
        "random" if split is None else "own",
        _unread_part(path) if split is None else (),
    )


def _unread_part(path: Path) -> tuple[str, ...]:
    """Return a note if LEAF has split the data set and only one part is read."""
    return unread_siblings(
        path,
        "give {folder} to read both with LEAF's own split",
        lambda folder: folder.is_dir() and any(folder.glob("*.json")),
        always=SPLITS,
    )


def _files(path: Path) -> list[tuple[int, Path]]:
    """Return the files in order, each with 0 for train, 1 for test, or -1."""
    for folder in (path, path / "data"):
        if any((folder / split).is_dir() for split in SPLITS):
            found = [
                (code, file)
                for code, split in enumerate(SPLITS)
                for file in sorted((folder / split).glob("*.json"))
            ]
            missing = {0, 1} - {code for code, _ in found}
            for code in sorted(missing):
                msg = (
                    f"{folder / SPLITS[code]} holds no JSON files; run LEAF's "
                    "preprocess.sh again, or give a folder that it has not split"
                )
                raise DataError(msg)
            return found
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    if not files:
        msg = (
            f"{path} holds neither LEAF's train and test nor any JSON files; give a "
            "folder that does"
        )
        raise DataError(msg)
    return [(-1, file) for file in files]


def _users(file: Path) -> list[tuple[str, list[Any], list[Any]]]:
    """Return each user of a file that has samples, with all x and y."""
    try:
        text = regular(file).read_text("utf-8")
        content = json.loads(text, object_pairs_hook=unique_keys)
        _check_users(content["users"])
        users = []
        for user, number in zip(content["users"], content["num_samples"], strict=True):
            x, y = (content["user_data"][user][key] for key in "xy")
            users.append((user, x, y, (_count(x), _count(y), number)))
    except OSError as error:
        msg = f"cannot read {file}: {error.strerror or error}"
        raise DataError(msg) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        msg = (
            f"{file} is no LEAF file, or damaged: it needs users, num_samples "
            f"and user_data ({reason})"
        )
        raise DataError(msg) from error
    for user, _, _, (inputs, labels, number) in users:
        if not inputs == labels == number:
            msg = (
                f"{file}: user {format_value(user)} has {inputs} inputs and "
                f"{labels} labels, and should have {number} samples; make the file "
                "again"
            )
            raise DataError(msg)
    return [(user, x, y) for user, x, y, _ in users if x]


def _check_users(users: Any) -> None:
    """Check that users are a list of names, each once."""
    if not isinstance(users, list):
        msg = "users are not a list"
        raise TypeError(msg)
    bad = [
        place
        for place, user in enumerate(users)
        if not isinstance(user, str) or user.strip() in ("", *MISSING)
    ]
    if bad:
        msg = (
            f"{len(bad)} of {len(users)} users have no name, the first is user "
            f"{bad[0]} ({format_value(users[bad[0]])})"
        )
        raise ValueError(msg)
    twice = first_repeated(users)
    if twice is not None:
        msg = f"user {format_value(twice)} is listed twice"
        raise ValueError(msg)


def _count(samples: Any) -> int:
    if not isinstance(samples, list):
        msg = f"x and y must be lists, not {type(samples).__name__}"
        raise TypeError(msg)
    return len(samples)


def whole_label(y: Any, classes: int) -> int:
    """Return a label from JSON, 3 or 3.0, if it is one of `classes` classes.

    Raises
    ------
    ValueError
        If it is not.
    """
    numeric = isinstance(y, (int, float)) and not isinstance(y, bool)
    if not numeric or y != y or not 0 <= y < classes or y != int(y):
        msg = f"label {format_value(y)} is not in 0 to {classes - 1}"
        raise ValueError(msg)
    return int(y)
