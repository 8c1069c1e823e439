"""Standard output and error: a terminal, a pipe, a file, or nothing at all.

A run must not end because its output cannot be written. `protected` replaces
`sys.stdout` and `sys.stderr` by streams that never raise: a character that the encoding
lacks is replaced by one that looks like it, and once a write has failed, because the
reader has gone or the disk is full, all further text is dropped.
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
"""Replacements for characters that an output's encoding does not have."""

FULL_PIPE_SECONDS = 5.0
"""How long a non-blocking pipe may be full before text is dropped."""

BLOCK_BYTES = 2**13
"""Characters of an unfinished line that are buffered at most."""

BIDI_CONTROLS = frozenset(
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
"""Name underlying which `codecs` knows the handler of encoding errors."""

codecs.register_error(LOOK_ALIKE, _look_alike)


class DescriptorWriter:
    """Writes to a descriptor, which may be a non-blocking pipe that is full."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._seconds_left = FULL_PIPE_SECONDS

    def write(self, data: bytes) -> None:
        """Write the data; drop what a full non-blocking pipe does not take in time."""
        while data:
            try:
                data = data[os.write(self.number, data) :]
                self._seconds_left = FULL_PIPE_SECONDS
            except BlockingIOError:
                if not self._ready():
                    return

    def _ready(self) -> bool:
        """Wait until a pipe has room; do not wait again for one that timed out."""
        begin = time.monotonic()
        found = select.select([], [self.number], [], self._seconds_left)[1]
        if not found:
            self._seconds_left = 0.0
        elif time.monotonic() - begin < 0.001:  # there is room, but too little
            time.sleep(0.001)
        return bool(found)


class Stream(io.TextIOBase):
    """A text stream whose writes never raise.

    Parameters
    ----------
    underlying
        The stream to write to; `None` where the process was started without one.
    """

    encoding: str = "utf-8"

    def __init__(self, underlying: TextIO | None) -> None:
        super().__init__()
        self.underlying = underlying
        self.error: Exception | None = None
        """The first write that failed, after which nothing more is written."""
        self.error_reported = False
        """Whether a note has said so."""
        self._pending = ""
        self._descriptor: DescriptorWriter | None = None
        if underlying is None:
            return
        with suppress(LookupError, TypeError, AttributeError, ValueError):
            self.encoding = codecs.lookup(underlying.encoding).name
        if isinstance(underlying, io.TextIOWrapper):
            with suppress(OSError, ValueError):
                underlying.flush()
                self._descriptor = DescriptorWriter(underlying.fileno())
        self._encode = codecs.getincrementalencoder(self.encoding)(LOOK_ALIKE).encode

    def writable(self) -> bool:
        """Return True: text that cannot be written is dropped."""
        return True

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        with suppress(OSError, ValueError, AttributeError):
            return self.underlying is not None and self.underlying.isatty()
        return False

    def fileno(self) -> int:
        """Return the descriptor of the underlying stream."""
        if self.underlying is None:
            msg = "there is no underlying stream"
            raise io.UnsupportedOperation(msg)
        return self.underlying.fileno()

    def write(self, text: str) -> int:
        """Buffer text, and write it once a line is complete."""
        if self.error is None:
            self._pending += text
            if "\n" in text or len(self._pending) > BLOCK_BYTES:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Write the buffered text; after a failure, drop it and all further text."""
        text, self._pending = self._pending, ""
        if not text or self.error is not None:
            return
        try:
            self._put(text)
        except (OSError, ValueError) as error:
            self.error = error

    def close(self) -> None:
        """Flush, and leave the underlying stream open."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the underlying stream, such as ``buffer``."""
        return getattr(self.__dict__.get("underlying"), name)

    def _put(self, text: str) -> None:
        if self.underlying is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._descriptor is None:
            data = text.encode(self.encoding, LOOK_ALIKE)
            self.underlying.write(data.decode(self.encoding))
            self.underlying.flush()
            return
        self._descriptor.write(self._encode(text))


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
    """Print a line in one write, so that other output cannot interrupt it.

    It never fails: an output that cannot be written does not end a run.
    """
    stream = stdout()
    stream.write(printable(text, lines=True) + "\n")
    stream.flush()


def print_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Print a table; its first column is left-aligned, the others are right-aligned."""
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
    """Report once, on standard error, that standard output cannot be written."""
    out, err = _protected[-1] if _protected else (None, None)
    if out is None or err is None or out.error is None or out.error_reported:
        return
    out.error_reported = True
    reason = getattr(out.error, "strerror", None) or out.error
    err.write(
        f"fedapm: note: cannot write to standard output ({reason}); the run "
        "continues without it\n"
    )
    err.flush()


_protected: list[tuple[Stream, Stream]] = []
"""The replaced standard output and error of each `protected` block."""


@contextmanager
def protected() -> Iterator[Stream]:
    """Replace the standard streams by ones that never raise; yield standard output."""
    _open_closed_descriptors()
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
    r"""Return text with its control characters escaped.

    A client's name or a path may contain anything, such as an escape sequence that
    clears the screen. With `lines`, line breaks and tabs are kept.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        char if char in kept or not _is_control(char) else _escaped(char)
        for char in text
    )


def _is_control(char: str) -> bool:
    control = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
    return control or char in BIDI_CONTROLS


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _stream(current: TextIO | None) -> Stream:
    return current if isinstance(current, Stream) else Stream(current)


def _open_closed_descriptors() -> None:
    """Open standard descriptors that are closed to the null device.

    Otherwise the next file that is opened would get such a number, and what a library
    writes to its standard error would go into a shard or a checkpoint.
    """
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)  # as the others are
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
