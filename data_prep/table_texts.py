"""Columns of a table whose texts become tokens, by a tokenizer from a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.table_columns import Columns
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.table import Column
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.atomic_io import file_sha256
from fedapm_mpi.utils.text import format_value, truncate

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
    "tokenizer.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""What a tokenizer is saved as, of which each has some."""

BATCH = 1000
"""Texts that are taken apart at a time."""

Rows = NDArray[np.int64]


class Tokenizer:
    """Tokens of texts, by the library transformers.

    Parameters
    ----------
    folder
        Where it was saved.

    Raises
    ------
    ConfigError
        If the library is not installed.
    DataError
        If there is no tokenizer in the folder.
    """

    def __init__(self, folder: str) -> None:
        try:
            import transformers as library
        except ImportError as error:
            msg = (
                f"text columns need transformers ({error}); install it: pip install "
                "'fedapm-mpi[text]'"
            )
            raise ConfigError(msg) from error
        transformers: Any = library
        self.hashes = {
            name: file_sha256(Path(folder) / name)
            for name in FILES
            if (Path(folder) / name).is_file()
        }
        try:
            if not self.hashes:
                msg = "it has none of the files that tokenizers are saved as"
                raise ValueError(msg)
            self._made = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            said = truncate(str(error).partition("\n")[0])
            msg = (
                f"tokenizer={format_value(folder)} cannot be read ({said}); name the "
                "folder that its save_pretrained wrote"
            )
            raise DataError(msg) from error
        self.codes = len(self._made)
        known = (self._made.pad_token_id, self._made.unk_token_id)
        self.padding = next((int(one) for one in known if one is not None), 0)

    def tokens(self, texts: Sequence[str], most: int) -> list[NDArray[np.int32]]:
        """Return the tokens of each text, its first ones; at least one of each."""
        found: list[NDArray[np.int32]] = []
        for start in range(0, len(texts), BATCH):
            made = self._made(
                list(texts[start : start + BATCH]), truncation=True, max_length=most
            )["input_ids"]
            found += [np.array(ids or [self.padding], np.int32) for ids in made]
        return found


def fit_texts(
    columns: Columns, name: str, tokenizer: Tokenizer, most: int
) -> dict[str, Any]:
    """Return the encoding of a column by tokens; it is of the longest of its texts."""
    each = tokenizer.tokens(["", *columns.found[name].texts], most)
    return {
        "column": name,
        "kind": "text",
        "tokenizer": tokenizer.hashes,
        "codes": tokenizer.codes,
        "length": max(map(len, each)),
    }


def text_spec(one: Mapping[str, Any]) -> InputSpec:
    """Return the input that a column of texts becomes."""
    shape = (one["length"],)
    return InputSpec(one["column"], shape, "int32", ragged=True, codes=one["codes"])


def text_column(
    columns: Columns, one: Mapping[str, Any], tokenizer: Tokenizer
) -> Column:
    """Return the input of tokens; a text that is missing has those of an empty one.

    Raises
    ------
    DataError
        If the tokenizer is another one than that of the encoding.
    """
    name = one["column"]
    if tokenizer.hashes != one["tokenizer"]:
        msg = (
            f"column {format_value(name)} was taken apart by another tokenizer; name "
            "that one"
        )
        raise DataError(msg)
    # The last one is that of what is missing, whose code in the column is -1.
    each = tokenizer.tokens([*columns.found[name].texts, ""], one["length"])
    sizes = np.array([len(tokens) for tokens in each], np.int64)
    lengths = sizes[columns.take(name, np.arange(columns.rows))]

    def fetch(rows: Rows) -> NDArray[Any]:
        block = np.full((len(rows), one["length"]), tokenizer.padding, np.int32)
        for line, code in zip(block, columns.take(name, rows).tolist(), strict=True):
            line[: sizes[code]] = each[code]
        return block

    return Column(text_spec(one), fetch, lengths)
