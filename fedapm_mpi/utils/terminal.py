"""The terminal, or what stands in its place: a pipe, a file, nothing at all.

A run is worth more than its output. `protected` puts streams in the place of
`sys.stdout` and `sys.stderr` that never raise: a character that the encoding lacks is
replaced by one that looks like it, and once a stream cannot be written, because its
reader has gone or the disk is full, what follows is dropped.
"""

import codecs
import errno
import io
import os
import select
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

LOOK_ALIKES = {
    "×": "x", "·": "*", "±": "+/-", "–": "-", "—": "-", "−": "-", "…": "...",
    "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≈": "~", "‖": "||", "∞": "inf",
    "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "µ": "u", "²": "^2",
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon",
    "η": "eta", "λ": "lambda", "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma",
    "Σ": "sum", "τ": "tau", "ᵢ": "_i", "⁻": "^-", "\u00a0": " ",
    **dict.fromkeys("─━╸╺", "-"), **dict.fromkeys("│┃", "|"),
}  # fmt: skip
"""What stands for a character that an output's encoding does not have."""

PATIENCE = 5.0
"""Seconds that a pipe which does not block may be full, until text is dropped."""

BLOCK_BYTES = 2**13
"""Characters of a line that are kept at most until its end comes."""

DIRECTIONS = frozenset(
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Characters that change the direction of the text around them."""


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_replaced(char) for char in text), error.end


def _replaced(char: str) -> str:
    if char in LOOK_ALIKES:
        return LOOK_ALIKES[char]
    return char.encode("ascii", "backslashreplace").decode("ascii")


LOOK_ALIKE = "fedapm.look_alike"
"""How errors of encoding are handled, by the name that `codecs` knows."""

codecs.register_error(LOOK_ALIKE, _look_alike)


class Outlet:
    """A descriptor that is written to, though a pipe behind it may be full."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._patience = PATIENCE

    def put(self, data: bytes) -> None:
        """Write all of it; drop what a pipe that does not block has no room for."""
        while data:
            try:
                data = data[os.write(self.number, data) :]
                self._patience = PATIENCE
            except BlockingIOError:
                if not self._ready():
                    return

    def _ready(self) -> bool:
        """Wait until a pipe has room; at once give up where one has kept us waiting."""
        begin = time.monotonic()
        found = select.select([], [self.number], [], self._patience)[1]
        if not found:
            self._patience = 0.0
        elif time.monotonic() - begin < 0.001:  # room for less than was to be written
            time.sleep(0.001)
        return bool(found)


class Stream(io.TextIOBase):
    """A text stream that never raises because it cannot be written.

    Parameters
    ----------
    under
        The stream to write to; `None` where the process was started without one.
    """

    encoding: str = "utf-8"

    def __init__(self, under: TextIO | None) -> None:
        super().__init__()
        self.under = under
        self.error: Exception | None = None
        """Why nothing more is written, once that is so."""
        self.told = False
        """Whether somebody has been told so."""
        self._pending = ""
        self._outlet: Outlet | None = None
        if under is None:
            return
        with suppress(LookupError, TypeError, AttributeError, ValueError):
            self.encoding = codecs.lookup(under.encoding).name
        if isinstance(under, io.TextIOWrapper):
            with suppress(OSError, ValueError):
                under.flush()
                self._outlet = Outlet(under.fileno())
        self._encode = codecs.getincrementalencoder(self.encoding)(LOOK_ALIKE).encode

    def writable(self) -> bool:
        """Return True: what cannot be written is dropped."""
        return True

    def isatty(self) -> bool:
        """Return whether a terminal is written to."""
        with suppress(OSError, ValueError, AttributeError):
            return self.under is not None and self.under.isatty()
        return False

    def fileno(self) -> int:
        """Return the descriptor below, where there is one."""
        if self.under is None:
            msg = "there is no stream below"
            raise io.UnsupportedOperation(msg)
        return self.under.fileno()

    def write(self, text: str) -> int:
        """Take up text, and write it once a line is complete."""
        if self.error is None:
            self._pending += text
            if "\n" in text or len(self._pending) > BLOCK_BYTES:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Write what was taken up; if that fails, drop it and all that follows."""
        text, self._pending = self._pending, ""
        if not text or self.error is not None:
            return
        try:
            self._put(text)
        except (OSError, ValueError) as error:
            self.error = error

    def close(self) -> None:
        """Flush, and leave the stream below open."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        """Return what this class does not have, such as ``buffer``, from below."""
        return getattr(self.__dict__.get("under"), name)

    def _put(self, text: str) -> None:
        if self.under is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._outlet is None:
            data = text.encode(self.encoding, LOOK_ALIKE)
            self.under.write(data.decode(self.encoding))
            self.under.flush()
            return
        self._outlet.put(self._encode(text))


_silenced: ContextVar[bool] = ContextVar("silenced", default=False)


@contextmanager
def silenced() -> Iterator[None]:
    """Drop what this package prints on standard output; errors are still printed."""
    token = _silenced.set(True)
    try:
        yield
    finally:
        _silenced.reset(token)


def stdout() -> Stream:
    """Return standard output as a stream that never raises."""
    return Stream(None) if _silenced.get() else _stream(sys.stdout)


def stderr() -> Stream:
    """Return standard error as a stream that never raises."""
    return _stream(sys.stderr)


def print_error(text: str) -> None:
    """Print text on standard error, in one write that never fails."""
    stream = stderr()
    stream.write(printable(text, lines=True) + "\n")
    stream.flush()


def echo(text: str) -> None:
    """Print a line in one write, so that no other output can come into it.

    It never fails: an output that cannot be written does not end a run.
    """
    stream = stdout()
    stream.write(printable(text, lines=True) + "\n")
    stream.flush()


def print_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Print a table; its first column is left-aligned, the others right."""
    from rich.table import Table  # not on ranks that only train
    from rich.text import Text

    named = Text(printable(title), style="table.title")
    table = Table(title=named, title_justify="left")
    for k, name in enumerate(header):
        table.add_column(_literal(name), justify="left" if k == 0 else "right")
    for row in rows:
        table.add_row(*[_literal(_cell(value)) for value in row])
    stream = stdout()
    width = None if stream.isatty() else 120
    rich_console(stream, width=width).print(table)
    stream.flush()


def report_lost_output() -> None:
    """Say once, on standard error, that standard output is no longer written."""
    out, err = _protected[-1] if _protected else (None, None)
    if out is None or err is None or out.error is None or out.told:
        return
    out.told = True
    reason = getattr(out.error, "strerror", None) or out.error
    err.write(
        f"fedapm: note: cannot write to standard output ({reason}); the run goes on "
        "without it\n"
    )
    err.flush()


_protected: list[tuple[Stream, Stream]] = []
"""The streams in place of standard output and error, of the calls under way."""


@contextmanager
def protected() -> Iterator[Stream]:
    """Let nothing that is written below end the process; give standard output."""
    _occupy_descriptors()
    before = sys.stdout, sys.stderr
    out, err = Stream(before[0]), Stream(before[1])
    sys.stdout, sys.stderr = out, err
    _protected.append((out, err))
    try:
        yield out
    finally:
        _protected.pop()
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return text with control characters as escapes, so that a terminal shows them.

    A client's name or a path may hold anything, an escape sequence that clears the
    screen included. With `lines`, line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        char if char in kept or not _controls(char) else _escaped(char) for char in text
    )


def short(text: str, width: int = 40) -> str:
    """Return text of at most `width` characters, cut where it is longer."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _controls(char: str) -> bool:
    control = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
    return control or char in DIRECTIONS


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _stream(current: TextIO | None) -> Stream:
    return current if isinstance(current, Stream) else Stream(current)


def _occupy_descriptors() -> None:
    """Open the standard descriptors that are closed, to nowhere.

    The next file that is opened would take such a number, and what a library writes to
    its standard error would go into a shard or a checkpoint.
    """
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)  # as all that a launcher gets
        os.close(number)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    return f"{value:,}"


def rich_console(stream: Stream, **options: Any) -> "Console":
    """Return a console of rich that prints to a stream."""
    from rich.console import Console

    return Console(file=cast("IO[str]", stream), **options)


def _literal(text: str) -> "Text":
    """Return text that is shown as it is, with its square brackets and colons."""
    from rich.text import Text

    return Text(printable(text))
