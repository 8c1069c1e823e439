"""Read tables (csv, tsv, parquet, feather) into columns.

Files are read in batches. Short columns are kept in memory: numbers as float32 where
that is exact, texts as codes. Long ones are spooled to temporary files, which are
mapped, and of which little is in memory at a time.
"""

import mmap
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.arrow_files import arrow, batches, reading, schema
from data_prep.regular_files import regular
from data_prep.sample_fields import first_repeated
from data_prep.spool import Spool
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value

FORMATS = {
    ".csv": ",", ".tsv": "\t", ".tab": "\t",
    ".parquet": "", ".feather": "", ".arrow": "",
}  # fmt: skip
"""By ending of a file's name: what separates its columns, if it is a text."""

NO_VALUE = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A")
"""Fields of a text file that stand for a missing value."""

SPOOL_BYTES = 2**20
"""Bytes of a column from which on it is spooled."""

BLOCK_BYTES = 2**22
"""Bytes of a text file that are read at a time; types are seen from the first."""

Kind = Literal["number", "text", "date"]


class Column(NamedTuple):
    """A column of all files.

    Numbers are floating, dates are days since 1970 with fractions, both NaN where they
    are missing; texts are codes, -1 where they are missing.
    """

    kind: Kind
    values: NDArray[Any]
    """(N,)."""

    texts: tuple[str, ...] = ()
    """What the codes stand for, sorted."""

    whole: bool = False
    """Whether the file has integers or truth values, not fractions."""

    classes: bool = False
    """Whether the texts are classes, in an order of their own, some without a row."""

    def release(self) -> None:
        """Give up the memory of a mapped column until its values are used again."""
        if isinstance(self.values, np.memmap):
            # NumPy keeps the mapping there, and has no other way to it.
            self.values._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


@dataclass
class Columns:
    """Tables of the same columns, one below the other."""

    files: tuple[Path, ...]
    first_rows: tuple[int, ...]
    """Of each file: the number of its first row in all; then the number of all rows."""

    found: dict[str, Column] = field(default_factory=dict)
    label: str = ""
    """What to call the table if it is in no file."""
    places: NDArray[np.integer[Any]] | None = None
    """(N,) where each row is in the columns, if `arrange` has moved them."""

    @property
    def rows(self) -> int:
        """All rows."""
        return self.first_rows[-1]

    @property
    def where(self) -> str:
        """Its first file, or what to call it, for messages."""
        return str(self.files[0]) if self.files else self.label

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return a column's values of the given rows."""
        column = self.found[name]
        at = rows if self.places is None else self.places[rows]
        values = np.asarray(column.values[at])
        column.release()
        return values

    def arrange(self, names: Sequence[str], order: NDArray[np.int64]) -> None:
        """Lay out columns in the order in which rows will be taken; others are left.

        Rows of one client are all over a table: without it, taking them reads a mapped
        column once for every few clients. Columns that are all in memory stay.

        Parameters
        ----------
        names
            The columns that will be taken.
        order
            Some or all rows, each once; else nothing is done.
        """
        columns = [self.found[name] for name in names]
        if not any(isinstance(one.values, np.memmap) for one in columns):
            return
        rest = np.ones(self.rows, bool)
        rest[order] = False
        order = np.concatenate([order, np.flatnonzero(rest)])
        if len(order) != self.rows:
            return
        for name, column in zip(names, columns, strict=True):
            moved = column.values[order]
            if isinstance(column.values, np.memmap):
                column.values[:] = moved
                column.release()
            else:  # it may be the memory of a user's frame
                self.found[name] = column._replace(values=moved)
        kind = np.int32 if self.rows < 2**31 else np.int64
        self.places = np.empty(self.rows, kind)
        self.places[order] = np.arange(self.rows, dtype=kind)

    def place(self, row: int) -> str:
        """Return where a row is, for messages: its file, and its line or row there."""
        if not self.files:
            return f"{self.label}, row {row}"
        k = int(np.searchsorted(self.first_rows[:-1], row, side="right")) - 1
        file, own = self.files[k], row - self.first_rows[k]
        return f"{file}, line {own + 2}" if is_text(file) else f"{file}, row {own}"


def is_text(file: Path) -> bool:
    """Return whether a table is a text file, by its name."""
    return bool(FORMATS[file.suffix.lower()])


def table_files(path: Path) -> tuple[Path, ...]:
    """Return the file, or those of a folder that are of one kind, sorted.

    Raises
    ------
    DataError
        If there is none, or they are of several kinds.
    """
    if path.is_dir():
        found = tuple(sorted(f for f in path.iterdir() if f.suffix.lower() in FORMATS))
        kinds = {f.suffix.lower() for f in found}
        if len(kinds) != 1:
            what = f"has {', '.join(sorted(kinds))}" if kinds else "has no table"
            msg = f"{path} {what}; give files of one of {', '.join(FORMATS)}"
            raise DataError(msg)
    elif not path.exists():
        msg = f"{path} does not exist; give the table with --from"
        raise DataError(msg)
    elif path.suffix.lower() in FORMATS:
        found = (path,)
    else:
        msg = (
            f"{path} is no table by its name; give a file that ends in "
            f"{', '.join(FORMATS)}, or a folder of such"
        )
        raise DataError(msg)
    return tuple(regular(file) for file in found)


def read_columns(
    path: Path, wanted: Sequence[str] | None, as_text: Sequence[str]
) -> tuple[Columns, tuple[str, ...]]:
    """Read columns of a table; return them, and the names of all.

    Parameters
    ----------
    path
        A file or a folder of files with the same columns.
    wanted
        Columns to read; all if None. Names that are not there are left to the caller.
    as_text
        Columns whose numbers are names, such as those of clients.

    Raises
    ------
    DataError
        If a file cannot be read, or files differ in their columns or types.
    ConfigError
        If pyarrow is not installed.
    """
    files = table_files(path)
    names = _common_names(files)
    chosen = [name for name in names if wanted is None or name in wanted]
    types: dict[str, str] = dict.fromkeys(set(as_text) & set(chosen), "text")
    while True:
        try:
            return _read_all(files, chosen, types), names
        except _WiderError as found:
            # Each column at most twice: to fractions, then to text.
            types[found.column] = found.kind


def _common_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of the columns, which must be those of every file."""
    names = column_names(files[0])
    for file in files[1:]:
        here = column_names(file)
        if here != names:
            odd = sorted({*here} ^ {*names}) or ["their order"]
            msg = (
                f"{file} has other columns than {files[0]} ({format_value(odd[0])}); "
                "give files with the same columns"
            )
            raise DataError(msg)
    return names


def _read_all(
    files: tuple[Path, ...], chosen: Sequence[str], types: Mapping[str, str]
) -> Columns:
    builders = {name: ColumnBuilder(name, types.get(name) == "text") for name in chosen}
    starts = [0]
    try:
        for file in files:
            count = starts[-1]
            for batch in _batches(file, chosen, types):
                for name, builder in builders.items():
                    builder.add(batch.column(name), str(file), is_text(file))
                count += batch.num_rows
            starts.append(count)
        found = Columns(files, tuple(starts))
        if not found.rows:
            msg = f"{files[0]} has no rows below its header; give a table with samples"
            raise DataError(msg)
        found.found = {name: builder.done() for name, builder in builders.items()}
    finally:
        for builder in builders.values():
            builder.close()
    return found


class _WiderError(Exception):
    """A column of a text file needs a wider type than its first rows."""

    def __init__(self, column: str, kind: str) -> None:
        super().__init__(column)
        self.column, self.kind = column, kind


def column_names(file: Path) -> tuple[str, ...]:
    """Return the names of a file's columns.

    Raises
    ------
    DataError
        If it cannot be read, or two are the same.
    """
    with reading(file):
        names = _csv(file).schema.names if is_text(file) else schema(file).names
    twice = first_repeated(names)
    if twice is not None:
        msg = f"{file} has two columns {format_value(twice)}; rename one of them"
        raise DataError(msg)
    if len(names) == 1 and any(mark in names[0] for mark in ";,\t"):
        msg = (
            f"{file} has one column {format_value(names[0])}; separate columns by "
            "commas in .csv and by tabs in .tsv"
        )
        raise DataError(msg)
    return tuple(names)


def _csv(
    file: Path,
    chosen: Sequence[str] | None = None,
    types: Mapping[str, Any] | None = None,
) -> Any:
    csv = arrow("csv")
    return csv.open_csv(
        file,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter=FORMATS[file.suffix.lower()]),
        convert_options=csv.ConvertOptions(
            include_columns=None if chosen is None else list(chosen),
            column_types=types,
            null_values=list(NO_VALUE),
            strings_can_be_null=True,
        ),
    )


def _batches(
    file: Path, chosen: Sequence[str], types: Mapping[str, str]
) -> Iterator[Any]:
    """Yield the batches of a file, all of the same types."""
    with reading(file):
        if is_text(file):
            yield from _csv_batches(file, chosen, types)
        else:
            yield from batches(file, chosen)


def _csv_batches(
    file: Path, chosen: Sequence[str], types: Mapping[str, str]
) -> Iterator[Any]:
    """Yield the batches of a text file; types are those of its first rows or wider.

    Raises
    ------
    _WiderError
        If a later row has a column of another type.
    """
    pa, kinds = arrow("lib"), arrow("types")
    types_of = {"number": pa.float64(), "text": pa.string()}
    given = {name: types_of[types[name]] for name in chosen if name in types}
    first = _csv(file, chosen, given).schema
    for name, kind in zip(first.names, first.types, strict=True):
        if kinds.is_null(kind):  # no value in the first rows
            given[name] = types_of["number"]
    try:
        yield from _csv(file, chosen, given)
    except pa.ArrowInvalid as error:
        found = re.search(r"In CSV column #(\d+)", str(error))
        names = column_names(file)
        if found is None or int(found[1]) >= len(names):
            raise
        name = names[int(found[1])]
        if name not in chosen or given.get(name) == types_of["text"]:
            raise
        wider = "text" if given.get(name) == types_of["number"] else "number"
        raise _WiderError(name, wider) from error


class ColumnBuilder:
    """Gathers the batches of a column.

    Parameters
    ----------
    name
        Its name.
    as_text
        Whether numbers are names, such as those of clients.
    classes
        Names of the classes, if its entries are their numbers.
    """

    def __init__(
        self, name: str, as_text: bool = False, classes: Sequence[str] = ()
    ) -> None:
        self._name, self._as_text, self._classes = name, as_text, tuple(classes)
        self._kind: Kind | None = None
        self._whole = True
        self._codes = {text: code for code, text in enumerate(self._classes)}
        self._parts: list[NDArray[Any]] = []
        self._bytes = 0
        self._spool = Spool("a column of the table")
        self._rows = 0

    def add(self, array: Any, where: str, from_text: bool = False) -> None:
        """Add the entries of a batch.

        Parameters
        ----------
        array
            Of pyarrow.
        where
            What to call the table in messages.
        from_text
            Whether it is a text file, whose columns have the types that they look like.

        Raises
        ------
        DataError
            If its type cannot be used, or is not that of earlier batches.
        """
        pa, pc = arrow("lib"), arrow("compute")
        array = plain(array)
        kind = kind_of_type(array.type)
        if from_text and arrow("types").is_binary(array.type):
            msg = (
                f"{where}: column {format_value(self._name)} is no text in UTF-8; save "
                "the file in UTF-8"
            )
            raise DataError(msg)
        if kind is None:
            msg = (
                f"{where}: column {format_value(self._name)} is {array.type}; columns "
                "are numbers, truth values, texts or dates"
            )
            raise DataError(msg)
        if self._classes:
            array, kind = self._named(array, where), "text"
        elif self._as_text and kind != "text":
            array, kind = pc.cast(array, pa.string()), "text"
        self._agree(kind, where, from_text)
        if kind == "text":
            self._parts.append(self._encoded(array))
        elif kind == "date":
            stamps = pc.cast(array, pa.timestamp("ms"), safe=False)
            whole = stamps.to_numpy(zero_copy_only=False)
            days = whole.astype("datetime64[ms]").astype(np.float64) / 86_400_000
            days[np.isnat(whole)] = np.nan
            self._parts.append(days)
        else:
            self._whole &= _is_whole(array.type)
            made = pc.cast(array, pa.float64(), safe=False)
            values = made.to_numpy(zero_copy_only=False)
            # The spool has doubles.
            self._parts.append(values if self._rows else _narrow(values))

        self._bytes += self._parts[-1].nbytes
        if self._bytes > SPOOL_BYTES:
            self._flush()

    def _named(self, array: Any, where: str) -> Any:
        """Return the names of classes for their numbers, null for -1.

        Raises
        ------
        DataError
            If an entry is no number of a class.
        """
        pa, number = arrow("lib"), len(self._classes)
        codes = arrow("compute").cast(array, pa.float64(), safe=False).fill_null(-1)
        values = codes.to_numpy(zero_copy_only=False)
        odd = np.flatnonzero((values % 1 != 0) | (values < -1) | (values >= number))
        if odd.size:
            msg = (
                f"{where}: column {format_value(self._name)} has the class "
                f"{values[odd[0]]:g}, but its classes are 0 to {number - 1}; save the "
                "data set with all names of its classes"
            )
            raise DataError(msg)
        # NumPy's -1 would be the last name.
        names = np.array([*self._classes, None], object)
        return pa.array(names[values.astype(np.int64)], pa.string())

    def _flush(self) -> None:
        """Append what has been gathered to the spool, numbers as float64."""
        for part in self._parts:
            self._spool.write(part.astype(self._dtype(), copy=False))
            self._rows += len(part)
        self._parts, self._bytes = [], 0

    def _agree(self, kind: Kind, where: str, from_text: bool) -> None:
        if self._kind not in (None, kind):
            if from_text:
                raise _WiderError(self._name, "text")
            msg = (
                f"{where}: column {format_value(self._name)} is a {kind} here and a "
                f"{self._kind} in a file before; give it one type"
            )
            raise DataError(msg)
        self._kind = kind

    def _encoded(self, array: Any) -> NDArray[np.int32]:
        encoded = array.dictionary_encode()
        own = [
            self._codes.setdefault(text, len(self._codes))
            for text in encoded.dictionary.to_pylist()
        ]
        places = np.array([*own, -1], np.int32)
        indices = encoded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)
        found: NDArray[np.int32] = places[indices]
        return found

    def close(self) -> None:
        """Close the spool."""
        self._spool.close()

    def _dtype(self) -> Any:
        return np.int32 if self._kind == "text" else np.float64

    def done(self) -> Column:
        """Return the whole column; what was gathered is given up."""
        if not self._rows:
            values = np.concatenate(self._parts)
            self._parts = []
        else:
            self._flush()
            values = self._spool.mapped(self._dtype(), (self._rows,))
        assert self._kind is not None
        if self._kind != "text":
            return Column(self._kind, values, whole=self._whole)
        if self._classes:
            return Column("text", values, self._classes, classes=True)
        texts = sorted(self._codes, key=_in_order(self._codes))
        place = np.empty(len(texts) + 1, np.int32)
        place[[self._codes[text] for text in texts]] = np.arange(len(texts))
        place[-1] = -1
        for start in range(0, len(values), BLOCK_BYTES):  # in place
            part = slice(start, start + BLOCK_BYTES)
            values[part] = place[values[part]]
        return Column("text", values, tuple(texts))


def plain(array: Any) -> Any:
    """Return an array of pyarrow without extension types and dictionaries."""
    pa = arrow("lib")
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.DictionaryArray):
        entries = _without_views(array.dictionary)
        array = pa.DictionaryArray.from_arrays(array.indices, entries)
        return array.dictionary_decode()
    return _without_views(array)


def _without_views(array: Any) -> Any:
    """Return texts as polars has them in the type that pyarrow computes with."""
    views = str(array.type) == "string_view"
    return array.cast(arrow("lib").large_string()) if views else array


def kind_of_type(of: Any) -> Kind | None:
    """Return what a type of pyarrow is read as; None if it is not."""
    types = arrow("types")
    if types.is_string(of) or types.is_large_string(of):
        return "text"
    if types.is_date(of) or types.is_timestamp(of):
        return "date"
    numbers = ("integer", "floating", "boolean", "decimal", "null")
    return "number" if any(getattr(types, f"is_{n}")(of) for n in numbers) else None


def _is_whole(of: Any) -> bool:
    types = arrow("types")
    return not (types.is_floating(of) or types.is_decimal(of))


def _in_order(texts: Iterable[str]) -> Callable[[str], Any]:
    """Return the key by which texts are sorted: as numbers, if all are whole ones."""
    if all(re.fullmatch(r"-?\d{1,18}", text) for text in texts):
        return int
    return str


def _narrow(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return numbers as float32, if that changes none."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    exact = (single == values) | np.isnan(values)
    return single if exact.all() else values


def others(count: int) -> str:
    """Return how many further rows have the same fault, for messages."""
    if count == 0:
        return ""
    return ", nor in one other row" if count == 1 else f", nor in {count} other rows"
