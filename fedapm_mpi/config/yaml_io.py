"""YAML as configurations are written: read by the rules of YAML 1.2, and written.

`ruamel.yaml` reads and writes the text. What is made of its nodes is plain: mappings,
lists, strings and the numbers, booleans and null of the core schema of YAML 1.2. So
``yes``, ``1:30`` and dates are strings, ``010`` is ten and ``1e-3`` a number. Its own
safe constructor takes ``1_000`` and dates for other than strings, knows no bounds and
does not say where a key stands first.

Imported where something is read or written only, which is on rank 0.
"""

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, StreamEndEvent
from ruamel.yaml.nodes import ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.text import format_value, truncate

MAX_DEPTH = 64
"""Levels of nesting that are taken."""

MAX_VALUES = 100_000
"""Values that a document may hold, its aliases resolved."""

MAX_BYTES = 16 * 2**20
"""Bytes of a file that are read."""

MAX_NUMBER_LENGTH = 100
"""Characters of a number that are taken."""

TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"

MERGE = object()
"""The key ``<<`` without quotes: its value's entries are added to the mapping."""

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


class _Wrong(Exception):
    """What is wrong with a document, and where."""

    def __init__(self, text: str, mark: Any = None) -> None:
        super().__init__(text if mark is None else f"{_place(mark)}: {text}")


def _place(mark: Any) -> str:
    """Return a place in a document, counted from 1."""
    return f"line {mark.line + 1}, column {mark.column + 1}"


class _Composer(Composer):
    """Composes the only document, and refuses what no configuration holds.

    A node stands once for all of its aliases, so these take no memory here; they are
    counted, since each becomes a copy of its own.
    """

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self.warn_double_anchors = False
        self.count = 0
        self.sizes: dict[Any, int] = {}
        """Values of each finished node."""

    def compose_document(self) -> Any:
        """Return the root node of the document."""
        start = self.parser.peek_event()
        if start.version is not None and tuple(start.version) != (1, 2):
            msg = "this is read as YAML 1.2; remove the line that says another"
            raise _Wrong(msg, start.start_mark)
        root = super().compose_document()
        if not self.parser.check_event(StreamEndEvent):
            msg = "another document begins here; only one is taken"
            raise _Wrong(msg, self.parser.peek_event().start_mark)
        return root

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        event = self.parser.peek_event()
        size = 1
        if isinstance(event, AliasEvent):
            if self.anchors.get(event.anchor) not in self.sizes:
                msg = f"nothing before it has the anchor &{truncate(event.anchor)}"
                raise _Wrong(msg, event.start_mark)
            size = self.sizes[self.anchors[event.anchor]]
        elif event.tag is not None:
            msg = (
                f"tags such as {format_value(str(event.tag))} are not taken; remove it"
            )
            raise _Wrong(msg, event.start_mark)
        before = self.count
        self.count += size
        if self.count > MAX_VALUES:
            msg = f"there are more than {MAX_VALUES} values"
            raise _Wrong(msg, event.start_mark)
        node = super().compose_node(parent, index)
        self.sizes[node] = self.count - before
        return node


def parse(text: str) -> Any:
    """Return what a YAML text says, `None` if nothing.

    Raises
    ------
    ValueError
        With a sentence on what is wrong, and where.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    try:
        root = yaml.compose(text)
        return None if root is None else _value(root, 0)
    except _Wrong as error:
        raise ValueError(str(error)) from None
    except YAMLError as error:
        raise ValueError(_description(error)) from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (OverflowError, ValueError, IndexError) as error:
        raise ValueError(truncate(str(error), 200)) from None


def _value(node: Any, depth: int) -> Any:
    """Return what a node stands for, a copy of it for each alias."""
    if isinstance(node, ScalarNode):
        plain = node.style is None
        return resolve(node.value, node.start_mark) if plain else node.value
    if depth >= MAX_DEPTH:
        raise _Wrong(TOO_DEEP, node.start_mark)
    if isinstance(node, SequenceNode):
        return [_value(one, depth + 1) for one in node.value]
    own: dict[Any, Any] = {}
    added: dict[Any, Any] = {}
    marks: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key, mark = _value(key_node, depth + 1), key_node.start_mark
        merges = key == "<<" and key_node.style is None
        _check_key(MERGE if merges else key, mark, marks)
        value = _value(value_node, depth + 1)
        if merges:
            added = _added(value, mark)
        else:
            own[key] = value
    return {**added, **own} if added else own


def _check_key(key: Any, mark: Any, marks: dict[Any, Any]) -> None:
    """Take note of where a key stands; raise `_Wrong` if it is none, or there twice."""
    if isinstance(key, bool) or not (key is MERGE or isinstance(key, str | int)):
        what = (
            "a list or a mapping" if isinstance(key, list | dict) else format_value(key)
        )
        msg = f"a key must be a string, not {what}"
        raise _Wrong(msg, mark)
    if key in marks:
        name = "'<<'" if key is MERGE else format_value(key)
        places = f"{_place(marks[key])} and in {_place(mark)}"
        msg = f"the key {name} is given twice, in {places}"
        raise _Wrong(msg)
    marks[key] = mark


def _added(value: Any, mark: Any) -> dict[Any, Any]:
    """Return the entries that ``<<`` adds to a mapping; of several the first win."""
    found: dict[Any, Any] = {}
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            msg = "what '<<' adds must be a mapping, or a list of mappings"
            raise _Wrong(msg, mark)
        found = {**one, **found}
    return found


def resolve(text: str, mark: Any = None) -> Any:
    """Return what a scalar without quotes is in the core schema of YAML 1.2."""
    if text in WORDS:
        return WORDS[text]
    number = INTEGER.fullmatch(text) or FLOAT.fullmatch(text)
    if number and len(text) > MAX_NUMBER_LENGTH:
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


def _description(error: Any) -> str:
    """Return what the reader says is wrong, in one line."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    context = getattr(error, "context", None)
    text = ", ".join(str(one) for one in (context, problem or error) if one)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = "" if mark is None else f"{_place(mark)}: "
    position = getattr(error, "position", None)
    if mark is None and position is not None:
        character = getattr(error, "character", "")
        code = character if isinstance(character, int) else ord(str(character)[:1])
        where = f"character {position + 1} (code {code:#x}): "
    return where + truncate(" ".join(text.split()), 200)


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
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        msg = f"larger than {MAX_BYTES // 2**20} MiB, so this is no configuration"
        raise ValueError(msg)
    try:
        text = data.decode("utf-8")
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
        what = "a list" if isinstance(values, list) else format_value(values)
        found = "but is empty" if values is None else f"not {what}"
        msg = f"{path} must hold keys and values, {found}"
        raise ConfigError(msg)
    return values


class _Representer(SafeRepresenter):
    """Represents values such that readers of YAML 1.1 and 1.2 take them alike."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: each value is written where it stands."""
        return True

    def represent_str(self, data: str) -> Any:
        """Return a string, in quotes where it could be taken for something else."""
        plain = PLAIN.fullmatch(data) and data.lower() not in NOT_PLAIN
        style = None if plain else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def represent_float(self, data: float) -> Any:
        """Return a number, with the point that YAML 1.1 wants in it."""
        if not math.isfinite(data):
            return super().represent_float(data)
        text = repr(data) if "." in repr(data) else repr(data).replace("e", ".0e")
        return self.represent_scalar("tag:yaml.org,2002:float", text)


_Representer.add_representer(str, _Representer.represent_str)
_Representer.add_representer(float, _Representer.represent_float)
_Representer.add_multi_representer(dict, _Representer.represent_dict)


def dump(values: Mapping[str, Any]) -> str:
    """Return plain values as YAML, which readers of YAML 1.1 and 1.2 read alike."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 2**31
    text = io.StringIO()
    yaml.dump(dict(values), text)
    return text.getvalue()
