"""Turn any exception into one sentence: which plug-in, which line, what happened.

A user's plug-in can raise anything. The innermost line of the user's code on the way
of an exception locates it; one that passes through none is a fault of this package,
and the sentence says so.
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

ENDLESS_RECURSION = "; it calls itself without an end"
"""What messages add to a `RecursionError`."""

OUR_FOLDERS = tuple(
    Path(__file__).resolve().parents[2] / name for name in ("fedapm_mpi", "data_prep")
)
"""Folders of this package's own code."""


class PluginError(FedAPMError):
    """A user's plug-in that failed, or returned what it must not, while in use."""


class InternalError(FedAPMError):
    """A failure that is a fault of this package."""


class Interrupted(FedAPMError):
    """The user ended the program."""

    exit_code = 130


class OutOfMemory(FedAPMError):
    """More memory was needed than there is."""


class UserPlugin(NamedTuple):
    """A user's plug-in that was loaded."""

    label: str
    """Kind and name, for messages: ``model './plain.py:plain'``."""

    kind: str
    file: str | None
    """Its source, as code objects name it."""

    package: str | None = None
    """Folder of the top-level package that it is in, if any."""


LOADED: list[UserPlugin] = []
"""The users' plug-ins that this process has loaded, in order."""


def debug_enabled() -> bool:
    """Return whether errors are shown with tracebacks."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def describe_error(error: BaseException) -> str:
    """Return type and text of an exception on one line, cut to a readable length."""
    try:
        text = str(error.msg) if isinstance(error, SyntaxError) else str(error)
    except Exception:  # a user's own __str__
        text = ""
    text = one_line(text)
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def user_location(error: BaseException) -> str:
    """Return file and line of the user's code in which an exception arose, or "".

    A syntax error has its own location; else it is the innermost line of the user's.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return _location(error.filename, error.lineno)
    found = [frame for frame in _frames(error) if is_user_file(frame[0])]
    return _location(*found[-1]) if found else ""


def plugin_error(
    label: str, error: BaseException, *, building: bool = False
) -> FedAPMError:
    """Return the error to raise where a user's plug-in failed with `error`.

    Parameters
    ----------
    label
        The plug-in, for messages.
    error
        What it raised.
    building
        Whether it was being built, so that the configuration cannot be run.
    """
    if isinstance(error, MemoryError):
        return to_fedapm_error(error)
    verb = "could not be built" if building else "failed"
    where = user_location(error) or innermost_location(error)
    text = f"{label} {verb}: {describe_error(error)}{where}"
    if isinstance(error, RecursionError):
        text += ENDLESS_RECURSION
    made: FedAPMError = ConfigError(text) if building else PluginError(text)
    return with_traceback(made, error)


@contextmanager
def blame(label: str | None) -> Iterator[None]:
    """Raise a `PluginError` for whatever a user's plug-in raises in the context.

    Parameters
    ----------
    label
        The plug-in, for messages; `None` for a built-in one, whose exceptions pass.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit too: a plug-in must not end a run
        if label is None or is_expected(error):
            raise
        raise plugin_error(label, error) from error


def to_fedapm_error(error: BaseException, *, building: bool = False) -> FedAPMError:
    """Return an exception as an error whose message is one sentence.

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
        return with_traceback(Interrupted("interrupted"), error)
    if _is_out_of_memory(error):
        return with_traceback(OutOfMemory(_memory_message(error)), error)
    label = blamed_plugin(error)
    if label is not None:
        return plugin_error(label, error, building=building)
    text = (
        f"internal error: {describe_error(error)}{innermost_location(error)}; please "
        f"report it, with the traceback that {DEBUG}=1 or --debug adds"
    )
    return with_traceback(InternalError(text), error)


def is_expected(error: BaseException) -> bool:
    """Return whether an error is one of this package's, whose message is complete.

    A user's own subclass may have any exit code, and may not reach other ranks.
    """
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, FedAPMError) and package in ("fedapm_mpi", "data_prep")


def is_user_file(file: str) -> bool:
    """Return whether a source file is a user's: not Python's, a package's or ours."""
    if any(file == plugin.file for plugin in LOADED):
        return True
    if file.startswith("<") or not file:
        return False
    return _is_outside_packages(file)


@functools.lru_cache(maxsize=4096)
def _is_outside_packages(file: str) -> bool:
    path = Path(os.path.realpath(file))
    if {"site-packages", "dist-packages"}.intersection(path.parts):
        return False
    return not any(path.is_relative_to(root) for root in _package_roots())


@functools.cache
def _package_roots() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    named = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    named += [os.path.realpath(name) for name in named]
    named += [site.getusersitepackages()]
    return (*OUR_FOLDERS, *(Path(name) for name in named))


def _frames(error: BaseException) -> list[tuple[str, int | None]]:
    """Return file and line of each call on the way to an exception, innermost last."""
    found: list[tuple[str, int | None]] = []
    step = error.__traceback__
    while step is not None:
        found.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    return found


def blamed_plugin(error: BaseException) -> str | None:
    """Return the label of the user's plug-in in which an exception arose, if any."""
    files = [file for file, _ in _frames(error)]
    for file in reversed(files):
        for plugin in LOADED:
            if plugin.file == file:
                return plugin.label
    if not LOADED:
        return None
    if any(is_user_file(file) for file in files):  # a module that a plug-in imports
        return LOADED[0].label if len(LOADED) == 1 else "a plug-in of yours"
    for file in reversed(files):  # a module of an installed plug-in's package
        for plugin in LOADED:
            if plugin.package and Path(file).is_relative_to(plugin.package):
                return plugin.label
    inside_module = any(file.endswith("nn/modules/module.py") for file in files)
    models = [plugin.label for plugin in LOADED if plugin.kind == "model"]
    return models[0] if inside_module and models else None


def _location(file: str, line: int | None) -> str:
    name = os.path.relpath(file) if _is_below_here(file) else file
    return f" ({name}, line {line})" if line is not None else f" ({name})"


def _is_below_here(file: str) -> bool:
    try:
        return Path(file).is_relative_to(Path.cwd())
    except OSError:  # the working directory was removed
        return False


def innermost_location(error: BaseException) -> str:
    """Return where an exception arose, and the innermost line of this package."""
    frames = [frame for frame in _frames(error) if not frame[0].startswith("<")]
    if not frames:
        return ""
    text = f"{Path(frames[-1][0]).name}, line {frames[-1][1]}"
    ours = [f for f in frames if Path(f[0]).is_relative_to(OUR_FOLDERS[0])]
    if ours and ours[-1] != frames[-1]:
        text += f", called from {Path(ours[-1][0]).name}, line {ours[-1][1]}"
    return f" ({text})"


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    marks = ("not enough memory", "can't allocate memory", "CUDA out of memory")
    return isinstance(error, RuntimeError) and any(m in str(error) for m in marks)


def _memory_message(error: BaseException) -> str:
    where = user_location(error) or innermost_location(error)
    described = describe_error(error)
    if "CUDA" in str(error):
        return (
            f"the GPU's memory is full: {described}{where}; take a smaller batch_size "
            "or model, or fewer ranks for each GPU, then continue by --resume"
        )
    return (
        f"memory is full: {described}{where}; take a smaller batch_size or model, "
        "fewer ranks on a node, or 'scratch' for client states and samples"
    )


def with_traceback(made: FedAPMError, error: BaseException) -> FedAPMError:
    """Return an error that remembers its cause, also when another rank receives it."""
    made.__cause__ = error
    if debug_enabled():
        made.trace = "".join(traceback.format_exception(error))
    return made
