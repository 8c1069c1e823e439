"""Write a data set directory from a data frame: pandas, polars or Arrow.

::

    from data_prep import write_frame

    write_frame(frame, "data/pupils", dataset="pupils", target="score", client="school")
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from data_prep.arrow_files import arrow
from data_prep.pipeline import plan_made, write_made
from data_prep.sample_fields import first_repeated
from data_prep.table_columns import ColumnBuilder, Columns
from data_prep.table_encoding import MAX_TOKENS, Encode, Missing
from data_prep.table_like import read_like
from data_prep.table_roles import Roles, source_of
from data_prep.targets import Kind
from data_prep.writer import check_unused
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value, truncate

LABEL = "the frame"
"""What messages call it."""


def write_frame(
    frame: Any,
    directory: str | Path,
    *,
    dataset: str,
    target: str | Sequence[str],
    kind: Kind | None = None,
    client: str | Sequence[str] | None = None,
    group: str | None = None,
    split_column: str | None = None,
    weight: str | None = None,
    incomplete: bool = False,
    inputs: Sequence[str] = (),
    drop: Sequence[str] = (),
    ordinal: Mapping[str, Sequence[str]] | None = None,
    ids: Sequence[str] = (),
    text: Sequence[str] = (),
    tokenizer: str | None = None,
    max_tokens: int = MAX_TOKENS,
    missing: Missing = "refuse",
    scale: Literal["pooled", "none"] = "pooled",
    like: str | Path | None = None,
    force: bool = False,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> Manifest:
    """Write a data set directory from a frame with one sample a row.

    The shards are those of ``fedapm prepare table`` on a file of the same columns.

    Parameters
    ----------
    frame
        A pandas or polars ``DataFrame``, a pyarrow ``Table``, or anything else that
        hands out Arrow data (``__arrow_c_stream__``). A pandas index is left out.
    directory
        Where to write.
    dataset
        Name of the data set.
    target, kind, client, group, split_column, weight, incomplete, inputs, drop
        Roles of columns, as options of `sources.table`.
    ordinal, ids, text, tokenizer, max_tokens, missing, scale
        What they become, likewise.
    like
        A data set whose columns, categories, means and classes are taken.
    force
        Whether to replace a finished data set.
    tell
        Called with each note on how the frame was read.
    **options
        As of ``fedapm prepare``: clients, partitioner, shift, keep, test, val, split,
        seed, shards, store, compression. A partitioner with options is a mapping, as in
        ``partitioner={"name": "dirichlet", "beta": 0.5}``.

    Raises
    ------
    DataError
        If a column is not there, a value is missing or of a wrong type, or the
        directory has a finished data set.
    ConfigError
        If an option is not known, or pyarrow is not installed.
    """
    folder = Path(directory)
    check_unused(folder, force)
    known = None
    if like is not None:
        known = read_like(
            like, inputs=inputs, drop=drop, ordinal=ordinal, ids=ids, text=text,
            max_tokens=max_tokens != MAX_TOKENS, tokenizer=tokenizer,
            missing=missing != "refuse", scale=scale != "pooled",
        )  # fmt: skip
        kind, inputs = known.kind(kind), known.inputs
    roles = Roles(
        target=(target,) if isinstance(target, str) else tuple(target),
        kind=kind,
        client=client if client is None or isinstance(client, str) else tuple(client),
        group=group,
        split_column=split_column,
        inputs=tuple(inputs),
        drop=tuple(drop),
        encode=Encode(
            missing=missing,
            scaled=scale == "pooled",
            ordinal=ordinal or {},
            ids=tuple(ids),
            text=tuple(text),
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            texts=() if known is None else known.as_text,
        ),
        weight=weight,
        incomplete=incomplete,
    )
    given = asdict(roles)
    given |= given.pop("encode") | {"like": None if like is None else str(like)}
    wanted = plan_made("frame", given, options)
    table = _as_arrow(frame)
    names = table.schema.names
    columns = frame_columns(table, roles)
    source = source_of(columns, names, roles, dataset, LABEL, like=known)
    return write_made(wanted, source, folder, force=force, tell=tell)


def _as_arrow(frame: Any) -> Any:
    """Return a frame as a table of pyarrow.

    Raises
    ------
    DataError
        If it is none, has no rows, or a column has entries of several types.
    """
    pa, pandas = arrow("lib"), sys.modules.get("pandas")
    try:
        if pandas is not None and isinstance(frame, pandas.DataFrame):
            named = frame.set_axis([str(name) for name in frame.columns], axis=1)
            table = pa.Table.from_pandas(named, preserve_index=False)
        else:
            table = frame if isinstance(frame, pa.Table) else pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        said = truncate("; ".join(map(str, reversed(error.args))), 200)
        msg = (
            f"{LABEL} cannot be read as columns of one type each ({said}); give a "
            "frame, and convert such a column, for instance to texts"
        )
        raise DataError(msg) from error
    names = table.schema.names
    twice = first_repeated(names)
    if twice is not None:
        msg = f"{LABEL} has two columns {format_value(twice)}; rename one of them"
        raise DataError(msg)
    if not table.num_rows:
        msg = f"{LABEL} has no rows; give one with samples"
        raise DataError(msg)
    return table


def frame_columns(table: Any, roles: Roles) -> Columns:
    """Return the columns that have a role, or may have one.

    Raises
    ------
    DataError
        If one is of a type that cannot be used.
    """
    names = table.schema.names
    roles.check(LABEL, names)
    wanted = {*roles.named(), *roles.chosen(names)}
    columns = Columns((), (0, table.num_rows), label=LABEL)
    for name in (name for name in names if name in wanted):
        builder = ColumnBuilder(name, name in roles.as_text())
        try:
            for chunk in table[name].chunks:
                builder.add(chunk, LABEL)
            columns.found[name] = builder.done()
        finally:
            builder.close()
    return columns
