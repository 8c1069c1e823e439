"""Read tables (csv, tsv, parquet, feather) into columns; the module that uses pyarrow.

Files are read in batches. Short columns are kept in memory: numbers as float32 where
that is exact, texts as codes. Long ones are spooled to temporary files, which are
mapped, and of which little is in memory at a time.
"""

import mmap
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.regular_files import regular
from data_prep.sample_fields import first_repeated
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.text import format_value, truncate

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
    """Of each file: the number of its first row in all."""

    found: dict[str, Column] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.first_rows[-1]

    def place(self, row: int) -> str:
        """Return where a row is, for messages: its file, and its line or row there."""
        k = int(np.searchsorted(self.first_rows[:-1], row, side="right")) - 1
        file, own = self.files[k], row - self.first_rows[k]
        text = FORMATS[file.suffix.lower()]
        return f"{file}, line {own + 2}" if text else f"{file}, row {own}"


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
    builders = {name: _Builder(name, types.get(name) == "text") for name in chosen}
    starts = [0]
    try:
        for file in files:
            count = starts[-1]
            for batch in _batches(file, chosen, types):
                for name, builder in builders.items():
                    builder.add(batch.column(name), file)
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
    with _reading(file):
        kind = file.suffix.lower()
        if FORMATS[kind]:
            names = _csv(file).schema.names
        elif kind == ".parquet":
            names = _arrow("parquet").ParquetFile(file).schema_arrow.names
        else:
            names = _arrow("ipc").open_file(file).schema.names
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


def _arrow(module: str) -> Any:
    try:
        return import_module(f"pyarrow.{module}")
    except ImportError as error:
        msg = (
            "reading tables needs pyarrow, which is not installed: install it with "
            "pip install 'fedapm-mpi[table]'"
        )
        raise ConfigError(msg) from error


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raise what pyarrow raises for a damaged file as a `DataError`."""
    errors = _arrow("lib").ArrowException
    try:
        yield
    except (errors, OSError) as error:
        said = truncate(str(error).partition("\n")[0], 200)
        msg = f"cannot read {file}: {said}; repair the file or save it again"
        raise DataError(msg) from error


def _csv(
    file: Path,
    chosen: Sequence[str] | None = None,
    types: Mapping[str, Any] | None = None,
) -> Any:
    csv = _arrow("csv")
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
    kind = file.suffix.lower()
    with _reading(file):
        if FORMATS[kind]:
            yield from _csv_batches(file, chosen, types)
        elif kind == ".parquet":
            reader = _arrow("parquet").ParquetFile(file)
            yield from reader.iter_batches(batch_size=2**16, columns=list(chosen))
        else:
            table = _arrow("ipc").open_file(file)
            for k in range(table.num_record_batches):
                yield table.get_batch(k).select(list(chosen))


def _csv_batches(
    file: Path, chosen: Sequence[str], types: Mapping[str, str]
) -> Iterator[Any]:
    """Yield the batches of a text file; types are those of its first rows or wider.

    Raises
    ------
    _WiderError
        If a later row has a column of another type.
    """
    pa, kinds = _arrow("lib"), _arrow("types")
    arrow = {"number": pa.float64(), "text": pa.string()}
    given = {name: arrow[types[name]] for name in chosen if name in types}
    first = _csv(file, chosen, given).schema
    for name, kind in zip(first.names, first.types, strict=True):
        if kinds.is_null(kind):  # no value in the first rows
            given[name] = arrow["number"]
    try:
        yield from _csv(file, chosen, given)
    except pa.ArrowInvalid as error:
        found = re.search(r"In CSV column #(\d+)", str(error))
        names = column_names(file)
        if found is None or int(found[1]) >= len(names):
            raise
        name = names[int(found[1])]
        if name not in chosen or given.get(name) == arrow["text"]:
            raise
        wider = "text" if given.get(name) == arrow["number"] else "number"
        raise _WiderError(name, wider) from error


class _Builder:
    """Gathers the batches of a column."""

    def __init__(self, name: str, as_text: bool) -> None:
        self._name, self._as_text = name, as_text
        self._kind: Kind | None = None
        self._whole = True
        self._codes: dict[str, int] = {}
        self._parts: list[NDArray[Any]] = []
        self._bytes = 0
        self._spool: IO[bytes] | None = None
        self._rows = 0

    def add(self, array: Any, file: Path) -> None:
        """Add the entries of a batch."""
        pa, pc, types = _arrow("lib"), _arrow("compute"), _arrow("types")
        kind = array.type
        if types.is_dictionary(kind):
            array = array.dictionary_decode()
            kind = array.type
        numeric = (
            types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_boolean(kind)
            or types.is_decimal(kind)
            or types.is_null(kind)
        )
        dated = types.is_date(kind) or types.is_timestamp(kind)
        texts = types.is_string(kind) or types.is_large_string(kind)
        if types.is_binary(kind) and FORMATS[file.suffix.lower()]:
            msg = (
                f"{file}: column {format_value(self._name)} is no text in UTF-8; save "
                "the file in UTF-8"
            )
            raise DataError(msg)
        if not (numeric or dated or texts):
            msg = (
                f"{file}: column {format_value(self._name)} is {kind}; columns are "
                "numbers, truth values, texts or dates"
            )
            raise DataError(msg)
        if self._as_text and not texts:
            array, texts, numeric, dated = (
                pc.cast(array, pa.string()),
                True,
                False,
                False,
            )
        self._agree("text" if texts else "date" if dated else "number", file)
        if texts:
            self._parts.append(self._encoded(array))
        elif dated:
            stamps = pc.cast(array, pa.timestamp("ms"), safe=False)
            whole = stamps.to_numpy(zero_copy_only=False)
            days = whole.astype("datetime64[ms]").astype(np.float64) / 86_400_000
            days[np.isnat(whole)] = np.nan
            self._parts.append(days)
        else:
            self._whole &= not (types.is_floating(kind) or types.is_decimal(kind))
            made = pc.cast(array, pa.float64(), safe=False)
            self._parts.append(_narrow(made.to_numpy(zero_copy_only=False)))

        self._bytes += self._parts[-1].nbytes
        if self._bytes > SPOOL_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Append what has been gathered to the spool, numbers as float64."""
        dtype = np.int32 if self._kind == "text" else np.float64
        try:
            if self._spool is None:
                self._spool = TemporaryFile(prefix="fedapm-table-")  # noqa: SIM115
            for part in self._parts:
                self._spool.write(part.astype(dtype, copy=False).tobytes())
                self._rows += len(part)
            self._spool.flush()
        except OSError as error:
            msg = (
                f"cannot spool a column of the table to {gettempdir()} "
                f"({error.strerror or error}); make room there, or set TMPDIR to "
                "another folder"
            )
            raise DataError(msg) from error
        self._parts, self._bytes = [], 0

    def _agree(self, kind: Kind, file: Path) -> None:
        if self._kind not in (None, kind):
            if FORMATS[file.suffix.lower()]:
                raise _WiderError(self._name, "text")
            msg = (
                f"{file}: column {format_value(self._name)} is a {kind} here and a "
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
        """Close the spool, if there is one."""
        if self._spool is not None:
            self._spool.close()

    def done(self) -> Column:
        """Return the whole column; what was gathered is given up."""
        if self._spool is None:
            values = np.concatenate(self._parts)
            self._parts = []
        else:
            self._flush()
            dtype = np.int32 if self._kind == "text" else np.float64
            values = np.memmap(self._spool, dtype, "r+", shape=(self._rows,))
            self.close()  # the mapping stays
        assert self._kind is not None
        if self._kind != "text":
            return Column(self._kind, values, whole=self._whole)
        texts = sorted(self._codes, key=_in_order(self._codes))
        place = np.empty(len(texts) + 1, np.int32)
        place[[self._codes[text] for text in texts]] = np.arange(len(texts))
        place[-1] = -1
        for start in range(0, len(values), BLOCK_BYTES):  # in place
            part = slice(start, start + BLOCK_BYTES)
            values[part] = place[values[part]]
        return Column("text", values, tuple(texts))


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
