"""A table with one sample a row: csv, tsv, parquet or feather, one file or many."""

from pathlib import Path
from typing import Literal

from data_prep.sources.base import Source, sources
from data_prep.table_columns import read_columns
from data_prep.table_encoding import Missing
from data_prep.table_roles import Roles, source_of
from data_prep.targets import Kind


@sources.register("table")
def table(
    path: Path,
    *,
    target: str | tuple[str, ...],
    kind: Kind | None = None,
    client: str | None = None,
    group: str | None = None,
    split_column: str | None = None,
    weight: str | None = None,
    incomplete: bool = False,
    inputs: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
    missing: Missing = "refuse",
    scale: Literal["pooled", "none"] = "pooled",
    name: str | None = None,
) -> Source:
    """Read samples from the rows of a table, by the roles of its columns.

    Split: that of the column `split_column`, if one is named.

    Parameters
    ----------
    path
        A .csv, .tsv, .parquet or .feather file, or a folder of such.
    target
        The column that models are to give; several of a list.
    kind
        What it is: ``class``, ``real`` numbers, or ``binary`` labels, a column each. By
        default texts, truth values and few different whole numbers are classes, other
        numbers real, and several columns of zeros and ones binary.
    client
        The column with the client of each row.
    group
        A column whose equal entries stay on one side of the split, such as the person
        of several rows; entries count within a client.
    split_column
        A column with train, test or val for each row.
    weight
        A column with a number above 0: how much each row counts in the loss.
    incomplete
        Whether rows may lack some of several targets, which count nowhere there.
    inputs
        The columns that models see; all that have no other role by default.
    drop
        Columns that are left out.
    missing
        What a missing number or date becomes: ``refuse``; or the ``mean`` or ``median``
        of the training rows, and one more input that says it was missing. A missing
        text is then a category.
    scale
        ``pooled`` gives numbers mean 0 and deviation 1 over all training rows; by
        client it is ``shift=standardise``, on top of either.
    name
        Name of the data set; that of the file if None.

    Raises
    ------
    ConfigError
        If both inputs and columns to drop are given.
    DataError
        If a column is not there, a value is missing, or a file cannot be read.
    """
    roles = Roles(
        target=(target,) if isinstance(target, str) else tuple(target),
        kind=kind,
        client=client,
        group=group,
        split_column=split_column,
        inputs=inputs,
        drop=drop,
        missing=missing,
        scaled=scale == "pooled",
        weight=weight,
        incomplete=incomplete,
    )
    wanted = roles.named() if inputs else None
    columns, names = read_columns(path, wanted, roles.texts())
    return source_of(columns, names, roles, name or path.stem, str(path))
