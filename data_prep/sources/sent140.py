"""Sentiment140 as LEAF's scripts write it: tweets by author."""

import re
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from data_prep.sources._leaf import read_leaf
from data_prep.sources.base import Source, sources
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.errors import ConfigError

TEXT = 4
"""Index of the text among a tweet's fields: id, date, query, user, text."""

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[.,!?;]")


@sources.register("sent140")
def sent140(path: Path, *, words: int = 25, vocabulary: int = 10_000) -> Source:
    """Read LEAF's Sentiment140: tweets by author, positive or negative.

    Each author is a client; most have one tweet only, so have LEAF leave out small
    ones, or merge authors with ``partitioner.min_samples``. Lower-case words and
    punctuation marks are hashed to codes from 1; 0 stands for an empty tweet.

    Split: LEAF's own where it has split the set.

    Parameters
    ----------
    path
        LEAF's ``data/sent140``, its ``data`` with ``train`` and ``test``, or a folder
        of JSON files that LEAF has not split.
    words
        Maximum number of words of a tweet; the rest is cut off.
    vocabulary
        Number of codes.

    Raises
    ------
    ConfigError
        If `words` is not positive, or `vocabulary` not from 2 to 65536.

    References
    ----------
    Go, Bhayani and Huang (2009); Caldas et al. (2018), LEAF: a benchmark for federated
    settings, arXiv:1812.01097.
    """
    if words < 1:
        msg = f"words must be at least 1, got {words}"
        raise ConfigError(msg)
    if not 2 <= vocabulary <= 2**16:
        msg = f"vocabulary must be from 2 to {2**16}, got {vocabulary}"
        raise ConfigError(msg)

    def tweets(x: list[Any]) -> Any:
        codes = np.zeros((len(x), words), np.uint16)
        for row, fields in zip(codes, x, strict=True):
            if not isinstance(fields, list) or not isinstance(fields[TEXT], str):
                msg = f"{fields!r} is not a list of fields with a text"
                raise ValueError(msg)
            hashed = encode(fields[TEXT], vocabulary)[:words]
            row[: len(hashed)] = hashed
        return codes

    read = read_leaf(path, tweets, _label)
    lengths = np.maximum(1, (read.inputs > 0).sum(axis=1))
    return read.as_source(
        Table(
            dataset="sent140",
            columns=[column("text", read.inputs, lengths=lengths)],
            labels=read.labels,
            classes=("negative", "positive"),
        )
    )


def encode(text: str, vocabulary: int) -> list[int]:
    """Return the codes of a text's words, from 1 to ``vocabulary - 1``."""
    found = WORD.findall(text.lower())
    return [1 + crc32(word.encode()) % (vocabulary - 1) for word in found]


def _label(y: Any) -> int:
    if y not in (0, 1):
        msg = f"label {y!r} is neither 0 nor 1"
        raise ValueError(msg)
    return int(y)
