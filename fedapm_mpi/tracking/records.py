"""The records of a run's rounds, ``rounds.jsonl``: one JSON object a line.

The last key of a line, ``check``, is the CRC-32 of the line without it, as eight hex
digits; it is compared before a record is used. Files of older versions have no such key
in any line; their content is not checked.

A reader returns all sound records, also those after a damaged line, in ascending order
of their rounds and each round once, and reports what is missing.
"""

import json
import math
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

from fedapm_mpi.tasks import MetricSet
from fedapm_mpi.tracking.metric_set import read_metric_set
from fedapm_mpi.tracking.variants import VARIANTS
from fedapm_mpi.utils.atomic_io import open_regular
from fedapm_mpi.utils.text import format_ranges

RECORDS_FILE = "rounds.jsonl"

Record = dict[str, Any]

MAX_ROUND = 2**53
"""Integers in records are smaller."""

_CHECK = re.compile(rb', "check": "([0-9a-f]{8})"\}\r?\n?\Z')
TABLE_KEYS = ("seconds", "bytes", "pooled", "multiplier", *VARIANTS)
"""Keys under which a record holds numbers by name."""

NUMBER_KEYS = (
    *("train_loss", "drift", "rho", "primal_residual", "dual_residual", "dual_sum"),
    *("wall_seconds", "num_participants", "coverage", "lagrangian", "lyapunov"),
)
"""Keys under which a record holds a number, or null, besides those of its metrics."""


def metric_keys(metrics: MetricSet) -> list[str]:
    """Return the keys of an evaluation: of each metric mean, spread, worst decile."""
    ends = ("", "_std", "_worst_decile")
    return [f"{name}{end}" for name in metrics.names for end in ends]


class Line(NamedTuple):
    """One parsed line."""

    record: Record | None
    checked: bool
    """Whether the line has a correct check value."""


class Records:
    """Reads the records of a run directory with little memory.

    Parameters
    ----------
    run
        The run directory. Without the file in it there are no records.

    Raises
    ------
    OSError
        If the file cannot be read.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / RECORDS_FILE
        self.faults: list[str] = []
        """Faults of the file, a sentence each; an incomplete last line is none: it is
        being written."""

        self.rounds = array("q")
        """Rounds of the sound records, ascending."""

        self._places = array("q")
        self._numbers = (*NUMBER_KEYS, *metric_keys(read_metric_set(run)))
        if os.path.lexists(self.path):
            with open_regular(self.path) as file:
                self._scan(file)

    def __iter__(self) -> Iterator[Record]:
        """Yield the sound records, without their check values."""
        if not self.rounds:
            return
        with open_regular(self.path) as file:
            for place, t in zip(self._places, self.rounds, strict=True):
                file.seek(place)
                record = parse_line(file.readline(), self._numbers).record
                if record is not None and record["round"] == t:
                    yield record

    def missing(self, last: int | None = None) -> list[range]:
        """Return the rounds from 0 to `last` (that of the last record) without one."""
        end = last if last is not None else self.rounds[-1] if self.rounds else -1
        return gaps(self.rounds, end)

    def notes(self, last: int | None = None) -> list[str]:
        """Return faults and missing rounds, a sentence each; see `missing`."""
        lost = self.missing(last)
        notes = [f"{self.path}: {fault}" for fault in self.faults]
        if lost:
            count = sum(len(one) for one in lost)
            rounds = format_ranges(lost[:10]) + ",..." * (len(lost) > 10)
            notes.append(
                f"{self.path} lacks the records of rounds {rounds} ({count} in all); "
                "metrics are computed from the others"
            )
        return notes

    def _scan(self, file: BinaryIO) -> None:
        rounds, places, checked = array("q"), array("q"), bytearray()
        end = os.fstat(file.fileno()).st_size
        damaged: list[int] = []
        number, place = 0, 0
        while place < end:
            raw = file.readline()
            if not raw:
                break
            number += 1
            line = parse_line(raw, self._numbers)
            if line.record is not None:
                rounds.append(line.record["round"])
                places.append(place)
                checked.append(line.checked)
            elif raw.endswith(b"\n"):  # otherwise it is being written
                damaged.append(number)
            place += len(raw)
        self._keep(rounds, places, checked, damaged)

    def _keep(
        self,
        rounds: "array[int]",
        places: "array[int]",
        checked: bytearray,
        damaged: list[int],
    ) -> None:
        chosen = list(range(len(rounds)))
        if any(checked) and not all(checked):
            chosen = [k for k in chosen if checked[k]]
            lines = len(rounds) - len(chosen)
            self.faults.append(f"lines without check value, left out: {lines}")
        if damaged:
            numbers = ", ".join(map(str, damaged[:5])) + ", ..." * (len(damaged) > 5)
            self.faults.append(
                f"damaged lines, left out: {len(damaged)} (line {numbers})"
            )
        kept = longest_increasing([rounds[k] for k in chosen])
        if len(kept) < len(chosen):
            lines = len(chosen) - len(kept)
            self.faults.append(
                f"lines of a round that comes twice or out of order, left out: {lines}"
            )
        for k in kept:
            self.rounds.append(rounds[chosen[k]])
            self._places.append(places[chosen[k]])


def encode_record(record: Mapping[str, Any]) -> str:
    """Return a record's line, with its check value."""
    text = json.dumps({k: v for k, v in record.items() if k != "check"})
    return f'{text[:-1]}, "check": "{crc32(text.encode()):08x}"}}\n'


def parse_line(raw: bytes, numbers: Iterable[str] = NUMBER_KEYS) -> Line:
    """Return the record in a line, `None` if it is not a sound one.

    `numbers` are the keys under which it must hold a number, or null.
    """
    found = _CHECK.search(raw, max(0, len(raw) - 30))
    if found is not None:
        raw = raw[: found.start()] + b"}"
        if crc32(raw) != int(found[1], 16):
            return Line(None, checked=False)
    try:
        record = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return Line(None, checked=False)
    if not _is_record(record, numbers):
        return Line(None, checked=False)
    record.pop("check", None)
    return Line(record, checked=found is not None)


def gaps(rounds: Iterable[int], last: int) -> list[range]:
    """Return the rounds from 0 to `last` that are not among ascending ones."""
    found, expected = [], 0
    for t in [*rounds, last + 1]:
        if t > expected:
            found.append(range(expected, min(t, last + 1)))
        expected = t + 1
    return [one for one in found if one]


def longest_increasing(numbers: list[int]) -> list[int]:
    """Return the indices of a longest strictly ascending subsequence."""
    if all(a < b for a, b in pairwise(numbers)):
        return list(range(len(numbers)))
    tails: list[int] = []  # of each length, the smallest last number
    at: list[int] = []  # its index
    before: list[int] = []
    for k, number in enumerate(numbers):
        length = bisect_left(tails, number)
        before.append(at[length - 1] if length else -1)
        tails[length : length + 1] = [number]
        at[length : length + 1] = [k]
    chain: list[int] = []
    k = at[-1] if at else -1
    while k >= 0:
        chain.append(k)
        k = before[k]
    return chain[::-1]


def _is_record(record: Any, numbers: Iterable[str]) -> bool:
    """Return whether the values that readers compute with have the right types."""
    if not isinstance(record, dict):
        return False
    t = record.get("round")
    if type(t) is not int or not 0 <= t < MAX_ROUND:
        return False
    tables = [record[key] for key in TABLE_KEYS if record.get(key) is not None]
    if not all(isinstance(table, dict) for table in tables):
        return False
    values = [record.get(key) for key in numbers]
    values += [value for table in tables for value in table.values()]
    return all(value is None or _is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < MAX_ROUND if isinstance(value, int) else math.isfinite(value)
