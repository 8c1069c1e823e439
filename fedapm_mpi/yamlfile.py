"""YAML as configurations are written: read by the rules of YAML 1.2, and written.

The events come from `ruamel.yaml`. What is built from them is plain: mappings, lists,
strings and the numbers, booleans and null of the core schema of YAML 1.2. So ``yes``,
``1:30`` and dates are strings, ``010`` is ten and ``1e-3`` a number. No tag is taken.
Imported where something is read or written only, which is on rank 0.
"""

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ConfigError
from .shorten import cut, shown

DEEPEST = 64
"""Levels of nesting that are taken."""

MOST_VALUES = 100_000
"""Values that a document may hold, its aliases resolved."""

LARGEST = 16 * 2**20
"""Bytes of a file that are read."""

LONGEST_NUMBER = 100
"""Characters of a number that are taken."""

WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII
)
INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

PLAIN = re.compile(r"[A-Za-z/](?:[\w./*@+=,:-]*[\w./*@+=-])?", re.ASCII)
"""Strings that may be written without quotes, but for `NOT_PLAIN`."""

NOT_PLAIN = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
"""Words that YAML 1.1 or 1.2 does not read as a string, whatever their case."""


class _Mark(NamedTuple):
    """Where something stands in a document, counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class _Wrong(Exception):
    """What is wrong with a document, and where."""

    def __init__(self, text: str, mark: _Mark | None = None) -> None:
        super().__init__(text if mark is None else f"{mark}: {text}")


class _Merge:
    """The key ``<<``: the value's entries are added to the mapping around it."""


class _Frame:
    """A mapping or a list that is being built."""

    def __init__(self, value: Any, anchor: str | None, before: int) -> None:
        self.value = value
        self.anchor = anchor
        self.before = before
        """Values of the document ahead of it."""

        self.has_key = False
        self.key: Any = None
        self.marks: dict[Any, _Mark] = {}
        """Where each key stands."""

        self.merged: dict[Any, Any] = {}

    def add(self, value: Any, mark: _Mark, *, plain: bool) -> None:
        """Add an item, or a key or its value."""
        if isinstance(self.value, list):
            self.value.append(value)
        elif not self.has_key:
            self._begin(_Merge if plain and value == "<<" else value, mark)
        else:
            self.has_key = False
            if self.key is _Merge:
                self._merge(value, mark)
            else:
                self.value[self.key] = value

    def _begin(self, key: Any, mark: _Mark) -> None:
        if isinstance(key, bool) or not (key is _Merge or isinstance(key, str | int)):
            what = "a list or a mapping" if isinstance(key, list | dict) else shown(key)
            msg = f"a key must be a string, not {what}"
            raise _Wrong(msg, mark)
        if key in self.marks:
            name = "'<<'" if key is _Merge else shown(key)
            msg = f"the key {name} is given twice, in {self.marks[key]} and in {mark}"
            raise _Wrong(msg)
        self.marks[key] = mark
        self.key, self.has_key = key, True

    def _merge(self, value: Any, mark: _Mark) -> None:
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                msg = "what '<<' adds must be a mapping, or a list of mappings"
                raise _Wrong(msg, mark)
            self.merged = {**one, **self.merged}

    def close(self) -> Any:
        """Return the finished value; a mapping's own keys win over merged ones."""
        if self.merged:
            return {**self.merged, **self.value}
        return self.value


class _Builder:
    """Builds plain values from events, without recursion."""

    def __init__(self) -> None:
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.count = 0
        self.root: Any = None

    def take(self, event: Any, documents: int) -> None:
        """Take one event of the only document."""
        from ruamel.yaml import events

        if event.start_mark is None:
            return
        mark = _Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, events.DocumentStartEvent):
            if documents > 1:
                msg = "another document begins here; only one is taken"
                raise _Wrong(msg, mark)
            if event.version is not None and tuple(event.version) != (1, 2):
                msg = "this is read as YAML 1.2; remove the line that says another"
                raise _Wrong(msg, mark)
        if getattr(event, "tag", None) is not None:
            msg = f"tags such as {shown(str(event.tag))} are not taken; remove it"
            raise _Wrong(msg, mark)
        if isinstance(event, events.ScalarEvent):
            plain = event.style is None
            value = resolve(event.value, mark) if plain else event.value
            self._place(value, event.anchor, mark, self.count, plain=plain)
        elif isinstance(event, events.AliasEvent):
            self._alias(event.anchor, mark)
        elif isinstance(event, events.MappingStartEvent | events.SequenceStartEvent):
            if len(self.stack) >= DEEPEST:
                msg = f"nested more than {DEEPEST} levels deep"
                raise _Wrong(msg, mark)
            value = {} if isinstance(event, events.MappingStartEvent) else []
            self.stack.append(_Frame(value, event.anchor, self.count))
        elif isinstance(event, events.MappingEndEvent | events.SequenceEndEvent):
            frame = self.stack.pop()
            self._place(frame.close(), frame.anchor, mark, frame.before, plain=False)

    def _place(
        self, value: Any, anchor: str | None, mark: _Mark, before: int, *, plain: bool
    ) -> None:
        self.count += 1
        if self.count > MOST_VALUES:
            msg = f"there are more than {MOST_VALUES} values"
            raise _Wrong(msg, mark)
        if anchor is not None:
            self.anchors[anchor] = (value, self.count - before)
        if self.stack:
            self.stack[-1].add(value, mark, plain=plain)
        else:
            self.root = value

    def _alias(self, anchor: str, mark: _Mark) -> None:
        if anchor not in self.anchors:
            msg = f"nothing before it has the anchor &{cut(anchor)}"
            raise _Wrong(msg, mark)
        value, size = self.anchors[anchor]
        before = self.count
        self.count += size - 1
        if self.count < MOST_VALUES:
            value = copy.deepcopy(value)
        self._place(value, None, mark, before, plain=False)


def parse(text: str) -> Any:
    """Return what a YAML text says, `None` if nothing.

    Raises
    ------
    ValueError
        With a sentence on what is wrong, and where.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import DocumentStartEvent

    builder, documents = _Builder(), 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            documents += isinstance(event, DocumentStartEvent)
            builder.take(event, documents)
    except _Wrong as error:
        raise ValueError(str(error)) from None
    except YAMLError as error:
        raise ValueError(_told(error)) from None
    except (RecursionError, OverflowError, ValueError, IndexError) as error:
        raise ValueError(cut(str(error), 200)) from None
    return builder.root


def resolve(text: str, mark: _Mark | None = None) -> Any:
    """Return what a scalar without quotes is in the core schema of YAML 1.2."""
    if text in WORDS:
        return WORDS[text]
    number = INTEGER.fullmatch(text) or FLOAT.fullmatch(text)
    if number and len(text) > LONGEST_NUMBER:
        msg = f"a number of {len(text)} characters is too long"
        raise _Wrong(msg, mark)
    if INTEGER.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)
    if number:
        return float(text)
    if INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def _told(error: Any) -> str:
    """Return what the reader says is wrong, in one line."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    context = getattr(error, "context", None)
    text = ", ".join(str(one) for one in (context, problem or error) if one)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = "" if mark is None else f"{_Mark(mark.line + 1, mark.column + 1)}: "
    position = getattr(error, "position", None)
    if mark is None and position is not None:
        character = getattr(error, "character", "")
        code = character if isinstance(character, int) else ord(str(character)[:1])
        where = f"character {position + 1} (code {code:#x}): "
    return where + cut(" ".join(text.split()), 200)


def read(path: Path) -> Any:
    """Return what a YAML file says, `None` if nothing.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        With a sentence on what is wrong, and where.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        msg = f"larger than {LARGEST // 2**20} MiB, so this is no configuration"
        raise ValueError(msg)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        msg = f"line {line}: this is not UTF-8 text (byte {data[error.start]:#04x})"
        raise ValueError(msg) from None
    return parse(text)


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file.

    Raises
    ------
    ConfigError
        If it cannot be read, or holds something else.
    """
    try:
        values = read(path)
    except OSError as error:
        msg = f"cannot read the configuration {path}: {error.strerror or error}"
        raise ConfigError(msg) from error
    except ValueError as error:
        msg = f"{path} is not valid YAML: {error}"
        raise ConfigError(msg) from error
    if not isinstance(values, dict):
        what = "a list" if isinstance(values, list) else shown(values)
        found = "but is empty" if values is None else f"not {what}"
        msg = f"{path} must hold keys and values, {found}"
        raise ConfigError(msg)
    return values


def dump(values: Mapping[str, Any]) -> str:
    """Return plain values as YAML, which readers of YAML 1.1 and 1.2 read alike."""
    return "".join(f"{line}\n" for line in _block(dict(values))) if values else "{}\n"


def _block(value: Any) -> list[str]:
    """Return the lines of a mapping or a list that is not empty."""
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, one in value.items():
            # A list may stand below its key without being indented.
            inside, indent = _inside(one), "" if _is_list(one) else "  "
            head = f"{_scalar(key)}:"
            if isinstance(inside, str):
                lines.append(f"{head} {inside}")
            else:
                lines += [head, *(indent + line for line in inside)]
        return lines
    for one in value:
        inside = _inside(one)
        first, *rest = [inside] if isinstance(inside, str) else inside
        lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return lines


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _inside(value: Any) -> str | list[str]:
    """Return a value as one word, or as the lines of its block."""
    if isinstance(value, Mapping):
        return _block(value) if value else "{}"
    if _is_list(value):
        return _block(value) if len(value) else "[]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool | int):
        return shown(value, 1000)
    if isinstance(value, float):
        return _float(value)
    if not isinstance(value, str):
        msg = f"{shown(value)} cannot be written as YAML"
        raise TypeError(msg)
    if PLAIN.fullmatch(value) and value.lower() not in NOT_PLAIN:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else _escaped(c) for c in quoted)


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")  # as YAML 1.1 wants it


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"
