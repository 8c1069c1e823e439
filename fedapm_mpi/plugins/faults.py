"""From any exception to one sentence: which part, which line, what happened.

A user's own part can raise anything. The innermost line of the user's code on the way
says where; a failure that passes through none is a fault of this package, and says so.
"""

import functools
import os
import site
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.utils.text import one_line

DEBUG = "FEDAPM_DEBUG"
"""Environment variable which, set to anything but 0, adds tracebacks to errors."""

PACKAGES = tuple(
    Path(__file__).resolve().parents[2] / name for name in ("fedapm_mpi", "data_prep")
)


class PluginError(FedAPMError):
    """A user's own part that failed, or returned what it must not, while in use."""


class InternalError(FedAPMError):
    """A failure that is a fault of this package."""


class Interrupted(FedAPMError):
    """The user did not want to wait."""

    exit_code = 130


class OutOfMemory(FedAPMError):
    """More memory was needed than there is."""


class UserPlugin(NamedTuple):
    """One of a user's own parts that was loaded."""

    label: str
    """Kind and name, for messages: ``model './plain.py:plain'``."""

    kind: str
    file: str | None
    """Its source, as code objects name it."""


OWN: list[UserPlugin] = []
"""The own parts that this process has loaded, in order."""


def debugging() -> bool:
    """Return whether errors are to come with tracebacks."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def cause(error: BaseException) -> str:
    """Return type and text of an exception on one line, cut to a readable length."""
    try:
        text = str(error.msg) if isinstance(error, SyntaxError) else str(error)
    except Exception:  # a user's own __str__
        text = ""
    text = one_line(text)
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def place(error: BaseException) -> str:
    """Return file and line of the user's code in which an exception arose, or nothing.

    A syntax error has its own place; else it is the innermost line of the user's.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return _at(error.filename, error.lineno)
    found = [frame for frame in _frames(error) if is_users(frame[0])]
    return _at(*found[-1]) if found else ""


def plugin_error(
    label: str, error: BaseException, *, building: bool = False
) -> FedAPMError:
    """Return the error to raise where an own part failed with `error`."""
    if isinstance(error, MemoryError):
        return classify(error)
    verb = "could not be built" if building else "failed"
    text = f"{label} {verb}: {cause(error)}{place(error) or last(error)}"
    if isinstance(error, RecursionError):
        text += "; it calls itself without an end"
    made: FedAPMError = ConfigError(text) if building else PluginError(text)
    return add_notes(made, error)


@contextmanager
def using(label: str | None) -> Iterator[None]:
    """Let whatever an own part raises inside become a `PluginError`.

    Parameters
    ----------
    label
        The part, for messages; `None` for one that is not the user's own, of which
        nothing is expected.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit too: a part must not end a run
        if label is None or is_expected(error):
            raise
        raise plugin_error(label, error) from error


def classify(error: BaseException, *, building: bool = False) -> FedAPMError:
    """Return an exception as an error that can be told in one sentence.

    Parameters
    ----------
    error
        What was raised; a `FedAPMError` is returned as it is.
    building
        Whether it was raised before training, so that it counts as a configuration
        that cannot be run.
    """
    if isinstance(error, FedAPMError) and is_expected(error):
        return error
    if isinstance(error, KeyboardInterrupt):
        return add_notes(Interrupted("interrupted"), error)
    if _is_out_of_memory(error):
        return add_notes(OutOfMemory(_memory(error)), error)
    part = culprits(error)
    if part is not None:
        return plugin_error(part, error, building=building)
    text = (
        f"internal error: {cause(error)}{last(error)}; please report it, with the "
        f"traceback that {DEBUG}=1 or --debug adds"
    )
    return add_notes(InternalError(text), error)


def is_expected(error: BaseException) -> bool:
    """Return whether an error is one of this package's, to be told as it is.

    A user's own kind may have any exit code, and may not reach other ranks.
    """
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, FedAPMError) and package in ("fedapm_mpi", "data_prep")


def is_users(file: str) -> bool:
    """Return whether a source file is a user's: none of Python's, a package's, ours."""
    if any(file == own.file for own in OWN):
        return True
    if file.startswith("<") or not file:
        return False
    return _outside(file)


@functools.lru_cache(maxsize=4096)
def _outside(file: str) -> bool:
    path = Path(os.path.realpath(file))
    if {"site-packages", "dist-packages"}.intersection(path.parts):
        return False
    return not any(path.is_relative_to(root) for root in _roots())


@functools.cache
def _roots() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    named = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    named += [os.path.realpath(name) for name in named]
    named += [site.getusersitepackages()]
    return (*PACKAGES, *(Path(name) for name in named))


def _frames(error: BaseException) -> list[tuple[str, int | None]]:
    """Return file and line of each call on the way to an exception, innermost last."""
    found: list[tuple[str, int | None]] = []
    step = error.__traceback__
    while step is not None:
        found.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    return found


def culprits(error: BaseException) -> str | None:
    """Return the own part in which an exception arose, if it was in one."""
    files = [file for file, _ in _frames(error)]
    for file in reversed(files):
        for own in OWN:
            if own.file == file:
                return own.label
    if not OWN:
        return None
    if any(is_users(file) for file in files):  # a module that a part imports
        return OWN[0].label if len(OWN) == 1 else "a part of your own"
    inside_module = any(file.endswith("nn/modules/module.py") for file in files)
    models = [own.label for own in OWN if own.kind == "model"]
    return models[0] if inside_module and models else None


def _at(file: str, line: int | None) -> str:
    name = os.path.relpath(file) if _below_here(file) else file
    return f" ({name}, line {line})" if line is not None else f" ({name})"


def _below_here(file: str) -> bool:
    try:
        return Path(file).is_relative_to(Path.cwd())
    except OSError:  # the working directory was removed
        return False


def last(error: BaseException) -> str:
    """Return the innermost place of all."""
    frames = [frame for frame in _frames(error) if not frame[0].startswith("<")]
    if not frames:
        return ""
    text = f"{Path(frames[-1][0]).name}, line {frames[-1][1]}"
    ours = [frame for frame in frames if Path(frame[0]).is_relative_to(PACKAGES[0])]
    if ours and ours[-1] != frames[-1]:
        text += f", called from {Path(ours[-1][0]).name}, line {ours[-1][1]}"
    return f" ({text})"


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    marks = ("not enough memory", "can't allocate memory", "CUDA out of memory")
    return isinstance(error, RuntimeError) and any(m in str(error) for m in marks)


def _memory(error: BaseException) -> str:
    where = place(error) or last(error)
    if "CUDA" in str(error):
        return (
            f"the GPU's memory is full: {cause(error)}{where}; take a smaller "
            "batch_size or model, or fewer ranks for each GPU, then go on by --resume"
        )
    return (
        f"memory is full: {cause(error)}{where}; take a smaller batch_size or model, "
        "fewer ranks on a node, or 'scratch' for what is kept of clients"
    )


def add_notes(made: FedAPMError, error: BaseException) -> FedAPMError:
    """Return an error that remembers where it came from, also on another rank."""
    made.__cause__ = error
    if debugging():
        made.trace = "".join(traceback.format_exception(error))
    return made
