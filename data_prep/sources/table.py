"""A table with one sample a row: csv, tsv, parquet or feather, one file or many."""

from pathlib import Path
from typing import Literal

from data_prep.sources.base import Source, sources
from data_prep.table_columns import read_columns
from data_prep.table_encoding import MAX_TOKENS, Encode, Missing
from data_prep.table_like import read_like
from data_prep.table_roles import Roles, source_of
from data_prep.targets import Kind


@sources.register("table")
def table(
    path: Path,
    *,
    target: str | tuple[str, ...],
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
    text: tuple[str, ...] = (),
    tokenizer: str | None = None,
    max_tokens: int = MAX_TOKENS,
    missing: Missing = "refuse",
    scale: Literal["pooled", "none"] = "pooled",
    like: str | None = None,
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
        The column with the client of each row; of several columns, such as
        ``[hospital,ward]``, each combination that occurs is a client.
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
    ordinal
        By column its texts from the least to the greatest, which become numbers, as in
        ``ordinal.size=[small,medium,large]``.
    ids
        Columns whose entries become codes that a model embeds, each an input of its
        own; for entries that no training row has there is one code.
    text
        Columns whose texts become tokens, each an input of its own.
    tokenizer
        The folder of what takes them apart, as ``save_pretrained`` of the library
        transformers wrote it.
    max_tokens
        Of a text, at most; the rest is left out.
    missing
        What a missing number or date becomes: ``refuse``; or the ``mean`` or ``median``
        of the training rows, and one more input that says it was missing. A missing
        text is then a category.
    scale
        ``pooled`` gives numbers mean 0 and deviation 1 over all training rows; by
        client it is ``shift=standardise``, on top of either.
    like
        A data set of ``prepare table``, whose columns, categories, means and classes
        are taken, as for rows that came later.
    name
        Name of the data set; that of the file if None.

    Raises
    ------
    ConfigError
        If both inputs and columns to drop are given.
    DataError
        If a column is not there, a value is missing, or a file cannot be read.
    """
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
            text=text,
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            texts=() if known is None else known.as_text,
        ),
        weight=weight,
        incomplete=incomplete,
    )
    wanted = roles.named() if inputs else None
    columns, names = read_columns(path, wanted, roles.as_text())
    return source_of(columns, names, roles, name or path.stem, str(path), like=known)
