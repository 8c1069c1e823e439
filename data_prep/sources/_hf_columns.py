"""The columns of a saved data set: tables' columns, arrays and images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

from data_prep.arrow_files import arrow, batches, reading, schema
from data_prep.arrow_lists import arrays, is_list_of_numbers, storage
from data_prep.gathered import Gathered
from data_prep.images import pillow, turned
from data_prep.sources._hf_files import Saved
from data_prep.table_columns import ColumnBuilder, Columns, kind_of_type, plain
from fedapm_mpi.data.table import Column
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value

Kind = Literal["flat", "class", "array", "image"]

ROWS = 1024
"""Rows of a parquet file that are read at a time; images take much memory."""


class Read(NamedTuple):
    """What was read."""

    columns: Columns
    arrays: dict[str, Column]
    counts: tuple[int, ...]
    """Rows of each part."""

    remarks: tuple[str, ...]
    """What of images was not kept."""


def kinds_of(saved: Saved) -> dict[str, Kind | None]:
    """Return what each column is read as; None if it cannot be."""
    file = next(iter(saved.parts.values()))[0]
    with reading(file):
        types = {field.name: storage(field.type) for field in schema(file)}
    return {name: _kind(saved.features.get(name), of) for name, of in types.items()}


def class_names(feature: Any) -> tuple[str, ...]:
    """Return the names of a feature's classes; empty if it has none."""
    if not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        return ()
    names = feature.get("names")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _kind(feature: Any, of: Any) -> Kind | None:
    described = feature.get("_type") if isinstance(feature, Mapping) else None
    fields = [of.field(k).name for k in range(of.num_fields)] if _is_struct(of) else []
    packed = sorted(fields) == ["bytes", "path"]
    if described == "Image" or (described is None and packed):
        return "image" if packed or str(of).endswith("binary") else None
    if class_names(feature):
        return "class"
    if is_list_of_numbers(of):
        return "array"
    return "flat" if kind_of_type(of) is not None else None


def _is_struct(of: Any) -> bool:
    return bool(arrow("types").is_struct(of))


def read_saved(
    saved: Saved,
    kinds: Mapping[str, Kind | None],
    wanted: Sequence[str],
    as_text: Sequence[str],
    size: int | None,
    colours: Literal["rgb", "grey"] | None,
) -> Read:
    """Read columns of all parts, one below the other.

    Parameters
    ----------
    saved
        The files.
    kinds
        What their columns are read as.
    wanted
        Columns to read.
    as_text
        Those whose numbers are names, such as those of clients.
    size, colours
        What images are scaled and turned to; see `Gathered`.

    Raises
    ------
    DataError
        If a column has a type that is not read, or a row does not fit the others.
    """
    files = tuple(file for some in saved.parts.values() for file in some)
    for name in wanted:
        if kinds[name] is None:
            _refuse(files[0], name, saved.features.get(name))
    chosen = [name for name in kinds if name in wanted]
    reader = _Reader(saved, kinds, chosen, as_text, size, colours)
    starts, counts = [0], []
    with ExitStack() as stack:
        stack.callback(reader.close)
        for some in saved.parts.values():
            before = starts[-1]
            for file in some:
                starts.append(starts[-1] + reader.read(file))
            counts.append(starts[-1] - before)
        if not starts[-1]:
            msg = f"{files[0]} has no rows; give a data set with samples"
            raise DataError(msg)
        columns = Columns(files, tuple(starts), reader.flat())
        return Read(columns, reader.arrays(), tuple(counts), reader.remarks(starts[-1]))


def _refuse(file: Path, name: str, feature: Any) -> None:
    what = feature.get("_type") if isinstance(feature, Mapping) else None
    with reading(file):
        what = what if isinstance(what, str) else schema(file).field(name).type
    msg = (
        f"{file}: column {format_value(name)} is {what}; columns are numbers, truth "
        f"values, texts, dates, classes, images, or lists of numbers: drop=[{name}]"
    )
    raise DataError(msg)


class _Reader:
    """Reads files into columns."""

    def __init__(
        self,
        saved: Saved,
        kinds: Mapping[str, Kind | None],
        chosen: Sequence[str],
        as_text: Sequence[str],
        size: int | None,
        colours: Literal["rgb", "grey"] | None,
    ) -> None:
        self._kinds, self._chosen = kinds, chosen
        self._flat: dict[str, ColumnBuilder] = {}
        self._arrays: dict[str, Gathered] = {}
        self._remarks: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        for name in chosen:
            if kinds[name] in ("array", "image"):
                self._arrays[name] = Gathered(name, size=size, colours=colours)
            else:
                names = class_names(saved.features.get(name))
                self._flat[name] = ColumnBuilder(name, name in as_text, names)
        if "image" in {kinds[name] for name in chosen}:
            pillow()

    def read(self, file: Path) -> int:
        """Read a file; return the number of its rows."""
        count = 0
        heavy = bool(self._arrays)
        with reading(file):
            for batch in batches(file, self._chosen, ROWS if heavy else 2**16):
                for name in self._chosen:
                    self._add(name, batch.column(name), file, count)
                count += batch.num_rows
        return count

    def _add(self, name: str, entries: Any, file: Path, first: int) -> None:
        if name in self._flat:
            self._flat[name].add(entries, str(file))
            return
        entries, made = plain(entries), self._arrays[name]
        if self._kinds[name] == "array":
            for k, one in enumerate(arrays(entries, name, first, str(file))):
                made.add(one, f"{file}, row {first + k}")
            return
        if _is_struct(entries.type):
            entries = entries.field("bytes")
        for k, one in enumerate(entries):
            self._add_image(made, one.as_py(), f"{file}, row {first + k}")

    def _add_image(self, made: Gathered, raw: bytes | None, where: str) -> None:
        name = format_value(made.name)
        if raw is None:
            msg = (
                f"{where}: column {name} has no bytes of an image; save the data set "
                "with its images in it, and leave out rows without one"
            )
            raise DataError(msg)
        try:
            with turned(raw) as (held, remarks):
                made.add(held, where)
        except DataError:
            raise
        except Exception as error:  # A damaged image raises anything.
            msg = f"{where}: column {name} does not decode ({error}); leave the row out"
            raise DataError(msg) from error
        for remark in remarks:
            self._remarks[remark] += 1
            self._first.setdefault(remark, where)

    def flat(self) -> dict[str, Any]:
        """Return the columns of a table."""
        return {name: builder.done() for name, builder in self._flat.items()}

    def arrays(self) -> dict[str, Column]:
        """Return arrays and images."""
        return {name: made.column() for name, made in self._arrays.items()}

    def remarks(self, rows: int) -> tuple[str, ...]:
        """Return sentences on what of images was not kept."""
        return tuple(
            f"{count} of {rows} images (first {self._first[remark]}) {remark}"
            for remark, count in self._remarks.items()
        )

    def close(self) -> None:
        """Close all files that columns are spooled to."""
        for builder in self._flat.values():
            builder.close()
        for made in self._arrays.values():
            made.close()
