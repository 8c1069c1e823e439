"""Read Arrow and parquet files in batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.text import truncate

MAGIC = b"ARROW1"
"""What an Arrow file begins with, and an Arrow stream does not."""


def arrow(module: str) -> Any:
    """Return a module of pyarrow.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return import_module(f"pyarrow.{module}")
    except ImportError as error:
        msg = (
            "reading tables needs pyarrow, which is not installed: install it with "
            "pip install 'fedapm-mpi[table]'"
        )
        raise ConfigError(msg) from error


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Raise what pyarrow raises for a damaged file as a `DataError`."""
    errors = arrow("lib").ArrowException
    try:
        yield
    except (errors, OSError) as error:
        said = truncate(str(error).partition("\n")[0], 200)
        msg = f"cannot read {file}: {said}; repair the file or save it again"
        raise DataError(msg) from error


def schema(file: Path) -> Any:
    """Return the schema of a parquet or Arrow file."""
    if file.suffix.lower() == ".parquet":
        return arrow("parquet").ParquetFile(file).schema_arrow
    with arrow("lib").memory_map(str(file)) as opened:
        return _opened(file, opened).schema


def batches(file: Path, chosen: Sequence[str], rows: int = 2**16) -> Iterator[Any]:
    """Yield the batches of a parquet or Arrow file, with the chosen columns.

    Those of a parquet file have `rows` rows, those of an Arrow file as many as it has.
    """
    if file.suffix.lower() == ".parquet":
        reader = arrow("parquet").ParquetFile(file)
        yield from reader.iter_batches(batch_size=rows, columns=list(chosen))
        return
    with arrow("lib").memory_map(str(file)) as opened:
        held = _opened(file, opened)
        found = (
            map(held.get_batch, range(held.num_record_batches))
            if _has_footer(file)
            else held
        )
        for batch in found:
            yield batch.select(list(chosen))


def _opened(file: Path, source: Any) -> Any:
    """Return the reader of an Arrow file, or of an Arrow stream in a file."""
    ipc = arrow("ipc")
    return ipc.open_file(source) if _has_footer(file) else ipc.open_stream(source)


def _has_footer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC
