"""The encoding of a table as another data set has it, for rows that came later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.table_columns import Columns, others
from data_prep.table_encoding import DATE_PARTS, flat
from data_prep.targets import Kind
from fedapm_mpi.data.manifest import MANIFEST, Manifest, read_manifest
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value

KINDS = {"number": "number", "date": "date"}
"""Of an encoding, those whose columns are not texts, and what they are."""


@dataclass(frozen=True)
class Like:
    """What a data set says of the columns that it was made of."""

    manifest: Manifest

    @property
    def file(self) -> Path:
        """Where it says so."""
        return Path(self.manifest.directory) / MANIFEST

    @property
    def encoding(self) -> Sequence[Mapping[str, Any]]:
        """What columns of inputs became, in order."""
        return self.manifest.encoding

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of inputs."""
        return tuple(one["column"] for one in self.encoding)

    @property
    def as_text(self) -> tuple[str, ...]:
        """Those that are read as texts."""
        return tuple(one["column"] for one in self.encoding if one["kind"] not in KINDS)

    def kind(self, given: Kind | None) -> Kind:
        """Return what the target is.

        Raises
        ------
        ConfigError
            If something else is wanted.
        """
        target = self.manifest.target
        found: Any = "class" if target is None else target.kind
        if given is not None and given != found:
            msg = (
                f"kind is {given!r}, but the target of {self.manifest.directory} is "
                f"{found!r}; leave kind out"
            )
            raise ConfigError(msg)
        kind: Kind = found
        return kind

    def check(self, columns: Columns) -> None:
        """Check that columns are of the kinds that were encoded.

        Raises
        ------
        DataError
            If one is not, or a value is missing where none may.
        """
        where = self.manifest.directory
        source = self.manifest.preparation.get("source", {})
        for one in flat(self.encoding):
            name, wanted = one["column"], KINDS.get(one["kind"], "text")
            column = columns.found[name]
            if column.kind != wanted:
                msg = (
                    f"{columns.where}: column {format_value(name)} has {column.kind}s, "
                    f"but in {where} it has {wanted}s; write it as there"
                )
                raise DataError(msg)
            if source.get("missing", "refuse") != "refuse":
                continue
            values = column.values
            absent = np.flatnonzero(
                values < 0 if column.kind == "text" else np.isnan(values)
            )
            if absent.size:
                msg = (
                    f"{columns.place(int(absent[0]))}: column {format_value(name)} has "
                    f"no value there{others(len(absent) - 1)}, and {where} has none "
                    "that is missing; leave such rows out"
                )
                raise DataError(msg)

    def codes(
        self, codes: NDArray[Any], classes: Sequence[str], where: str
    ) -> NDArray[np.int32]:
        """Return the class of each row by its number in the other data set.

        Raises
        ------
        DataError
            If it has no such class.
        """
        known = {name: k for k, name in enumerate(self.manifest.classes)}
        new = [name for name in classes if name not in known]
        if new:
            msg = (
                f"{where}: {self.manifest.directory} has no class "
                f"{format_value(new[0])}{did_you_mean(new[0], list(known))} (it has: "
                f"{format_some(list(known))}); leave its rows out"
            )
            raise DataError(msg)
        numbers = np.array([known[name] for name in classes], np.int32)
        found: NDArray[np.int32] = numbers[codes]
        return found

    def check_target(self, names: Sequence[str]) -> None:
        """Check the names of targets that are no classes.

        Raises
        ------
        ConfigError
            If they are not those of the other data set.
        """
        target = self.manifest.target
        if target is not None and tuple(names) != target.names:
            msg = (
                f"target is {format_some(list(names))}, but {self.manifest.directory} "
                f"has {format_some(list(target.names))}; name these"
            )
            raise ConfigError(msg)


def read_like(
    directory: str | Path, *, tokenizer: str | None = None, **given: Any
) -> Like:
    """Return what a data set that was made of a table says of its columns.

    Parameters
    ----------
    directory
        The data set.
    tokenizer
        What takes texts apart, which is needed if it has columns of texts.
    **given
        Options that then have no effect, and must not be given.

    Raises
    ------
    DataError
        If it is none, or was not made of columns.
    ConfigError
        If such an option is given.
    """
    odd = [name for name, value in given.items() if value]
    if odd:
        msg = (
            f"{odd[0]} has no effect with like, which has the columns and what they "
            "become from another data set; leave it out"
        )
        raise ConfigError(msg)
    found = read_manifest(directory)
    if not found.encoding:
        msg = (
            f"{directory} was not made of the columns of a table; name a data set of "
            "'prepare table', or leave like out"
        )
        raise DataError(msg)
    for one in found.encoding:
        if not _is_encoding(one):
            msg = (
                f"{directory}/{MANIFEST} has an encoding that this version does not "
                f"know ({format_value(one.get('column'))}); prepare the data set again"
            )
            raise DataError(msg)
    texts = [one["column"] for one in found.encoding if one["kind"] == "text"]
    if bool(texts) != (tokenizer is not None):
        msg = (
            f"{directory} has texts ({format_some(texts)}); name the tokenizer that "
            "took them apart with tokenizer=FOLDER"
            if texts
            else f"tokenizer has no effect, as {directory} has no texts; leave it out"
        )
        raise ConfigError(msg)
    return Like(found)


_KEYS = {
    "number": {"fill", "mean", "std", "missing"},
    "date": {"fill", "mean", "std", "missing", "parts"},
    "ordinal": {"fill", "mean", "std", "missing", "order"},
    "category": {"categories", "missing"},
    "ids": {"categories"},
    "text": {"tokenizer", "codes", "length"},
}


def _is_encoding(one: Mapping[str, Any]) -> bool:
    """Return whether a mapping of a manifest says what a column becomes."""
    keys = _KEYS.get(one.get("kind", ""))
    if keys is None or one.keys() != keys | {"column", "kind"}:
        return False
    texts = [*one.get("categories", []), *one.get("order", []), one["column"]]
    if not all(isinstance(text, str) for text in texts):
        return False
    parts = one.get("parts", ["value"])
    if "parts" in one and not set(parts) <= set(DATE_PARTS):
        return False
    moments = [one[key] for key in ("mean", "std") if key in one]
    return all(
        isinstance(values, list)
        and len(values) == len(parts)
        and all(isinstance(value, float | int) for value in values)
        for values in moments
    )
