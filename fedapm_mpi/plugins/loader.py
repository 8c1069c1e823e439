"""A user's own parts: ``module:name``, or a file and a name, ``./plain.py:plain``.

A file is loaded under a module name of its own, made from its path, so that it shadows
nothing and nothing shadows it. Its folder is appended to ``sys.path``, so that it can
import what lies beside it; appended, so that a file called ``random.py`` there does not
replace a library's. What code prints while it is imported goes to the standard error.
"""

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins import faults
from fedapm_mpi.plugins.names import (
    absolute,
    is_file,
    is_there,
    is_user_plugin,
    label,
    label_of,
    path_of,
    renamed,
    shown,
)
from fedapm_mpi.utils.text import one_line

__all__ = [
    "absolute",
    "forbidden",
    "is_file",
    "is_there",
    "is_user_plugin",
    "label",
    "label_of",
    "load",
    "may_import",
    "module_of",
    "renamed",
    "shown",
]

PREFIX = "fedapm_own_"
"""How the module names of files begin."""

_forbidden: list[str] = []
"""Reasons for which no own part may be imported at present."""


@contextlib.contextmanager
def forbidden(reason: str) -> Iterator[None]:
    """Let no own part be imported inside; a refusal gives the reason."""
    _forbidden.append(reason)
    try:
        yield
    finally:
        _forbidden.pop()


def may_import() -> bool:
    """Return whether own parts may be imported at present; see `forbidden`."""
    return not _forbidden


def load(kind: str, name: str) -> Any:
    """Return an own part, imported.

    Raises
    ------
    ConfigError
        If it cannot be imported, or is nothing that can be called; the sentence says
        why, where, and what to do.
    """
    what = label(kind, name)
    if _forbidden:
        msg = f"{what} is code of its own, which is not imported here: {_forbidden[-1]}"
        raise ConfigError(msg)
    where, attribute = _divided(what, name)
    if is_file(name):
        module = _from_file(what, where)
    else:
        module = _from_name(what, where, attribute)
    part = _attribute(what, module, attribute, where)
    file = getattr(module, "__file__", None)
    if not callable(part):
        msg = (
            f"{what}: {attribute!r} in {_shown_file(file) or where} is "
            f"{_article(part)}; it must be a function or class that can be called"
        )
        raise ConfigError(msg)
    _remember(what, kind, part, file)
    return part


def module_of(name: str) -> ModuleType | None:
    """Return the module of an own part that was loaded, else `None`."""
    where = name.rpartition(":")[0]
    if is_file(name):
        found = _known(os.path.realpath(where))
        return found or sys.modules.get(module_name(where))
    return sys.modules.get(where)


def module_name(path: str) -> str:
    """Return the name under which a file is loaded: the same for the same file."""
    real = os.path.realpath(path)
    stem = "".join(c if c.isalnum() else "_" for c in Path(real).stem)
    return f"{PREFIX}{stem}_{sha256(os.fsencode(real)).hexdigest()[:12]}"


def _divided(what: str, name: str) -> tuple[str, str]:
    """Return module or file, and attribute."""
    where, colon, attribute = name.rpartition(":")
    if not colon and Path(name).suffix == ".py":
        msg = f"{what}: say which part of the file it is, as in {_tidy(name)}:NAME"
        raise ConfigError(msg)
    good = all(step.isidentifier() for step in attribute.split("."))
    if not is_file(name):
        good = good and all(step.isidentifier() for step in where.split("."))
    if not where or not good or "\0" in name:
        msg = (
            f"{what} is not a name: write module:name or ./file.py:name, where the "
            "name is that of a function or class in it"
        )
        raise ConfigError(msg)
    return where, attribute


def _tidy(path: str) -> str:
    return one_line(path if "/" in path else f"./{path}")


def _from_file(what: str, where: str) -> ModuleType:
    path = path_of(where)
    try:
        there, folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:
        msg = f"{what}: cannot look for the file ({faults.cause(error)})"
        raise ConfigError(msg) from error
    if folder:
        msg = f"{what}: {_shown_file(where)} is a folder; name a file in it"
        raise ConfigError(msg)
    if not there:
        msg = f"{what}: there is no file {_shown_file(where)}{_nearest(path)}"
        raise ConfigError(msg)
    if path.suffix != ".py":
        msg = f"{what}: {_shown_file(where)} is not a .py file"
        raise ConfigError(msg)
    real = os.path.realpath(path)
    known = _known(real)
    if known is not None:  # the same file by another name is the same module
        return known
    name = module_name(where)
    spec = importlib.util.spec_from_file_location(name, real)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _append_path(str(Path(real).parent))
    sys.modules[name] = module  # dataclasses and type hints look there
    try:
        with _apart():
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        sys.modules.pop(name, None)
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        raise _not_imported(what, error, real) from error
    return module


def _from_name(what: str, where: str, attribute: str) -> ModuleType:
    if "" not in sys.path:
        _append_path(str(Path.cwd()))  # as "python -m" would, but last
    importlib.invalidate_caches()  # for files that were written a moment ago
    try:
        with _apart():
            module = importlib.import_module(where)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if _is_missing(error, where):
            file = f"./{where.replace('.', '/')}.py:{attribute}"
            msg = (
                f"{what}: cannot import {where!r} ({one_line(str(error))}); "
                "run from its folder, put that on PYTHONPATH, install it, or name its "
                f"file, as in {file}{_near_here(where)}"
            )
            raise ConfigError(msg) from error
        raise _not_imported(what, error, _origin(where)) from error
    _refuse_ambiguous(what, module, where, attribute)
    return module


def _origin(where: str) -> str | None:
    """Return the file of a module that could not be imported, if it can be found."""
    try:
        spec = importlib.util.find_spec(where)
    except BaseException:  # of a package that it is in
        return None
    return None if spec is None else spec.origin


def _is_missing(error: BaseException, where: str) -> bool:
    """Return whether a module was not found, not something that it imports."""
    if not isinstance(error, ModuleNotFoundError) or faults.place(error):
        return False
    name = error.name or ""
    return where == name or where.startswith(f"{name}.")


def _not_imported(what: str, error: BaseException, file: str | None) -> ConfigError:
    """Return the error to raise where code was found, and raised as it was imported."""
    at = faults.place(error)
    if not at and file is not None:
        at = f" ({_shown_file(file)})"
    text = f"{what} was found, but its import failed: {faults.cause(error)}"
    text += at or faults.last(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        text += f"; install {error.name.split('.')[0]!r} or put it on PYTHONPATH"
    if "relative import with no known parent package" in text:
        text += "; name a file of a package by its module, package.file:NAME"
    if isinstance(error, RecursionError):
        text += "; it calls itself without an end"
    made = ConfigError(text)
    faults.add_notes(made, error)
    return made


def _refuse_ambiguous(
    what: str, module: ModuleType, where: str, attribute: str
) -> None:
    """Refuse a module where another file of that name lies in the working directory."""
    local = Path(*where.split("."))
    file = getattr(module, "__file__", None)
    for path in (local.with_suffix(".py"), local / "__init__.py"):
        if not path.is_file() or (file and _same(path, file)):
            continue
        if file and local.with_suffix(".py").is_file() and path.name == "__init__.py":
            continue
        msg = (
            f"{what}: module {where!r} is {file or 'built into Python'}, not the file "
            f"{path} here; if that is meant, write ./{path}:{attribute}"
        )
        if file:
            msg += f", otherwise {file}:{attribute}"
        raise ConfigError(msg)


def _same(path: Path, file: str) -> bool:
    try:
        return path.samefile(file)
    except OSError:
        return False


def _attribute(what: str, module: ModuleType, attribute: str, where: str) -> Any:
    found: Any = module
    for step in attribute.split("."):
        try:
            with _apart():
                found = getattr(found, step)
        except AttributeError:
            public = [n for n in vars(found) if not n.startswith("_")]
            near = get_close_matches(step, public, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if found is module and _is_submodule(module, step):
                hint = f"; for the module {step!r} in it write {where}.{step}:NAME"
            file = _shown_file(getattr(module, "__file__", None)) or where
            msg = f"{what}: {file} has no {step!r}{hint}"
            raise ConfigError(msg) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module's own __getattr__
            raise _not_imported(what, error, None) from error
    return found


def _is_submodule(module: ModuleType, name: str) -> bool:
    folders = getattr(module, "__path__", ())
    return any((Path(folder) / f"{name}.py").is_file() for folder in folders)


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Keep imported code from the standard output, and from waiting for input."""
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        before, sys.stdin = sys.stdin, nothing
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            sys.stdin = before


def _known(real: str) -> ModuleType | None:
    """Return the module that was loaded from a file, whatever it is called."""
    base = Path(real).name
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if not isinstance(file, str) or Path(file).name != base:
            continue
        if os.path.realpath(file) == real:
            return module
    return None


def _append_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()


def _nearest(path: Path) -> str:
    """Return a hint at the file whose name is most like one that is not there."""
    try:
        names = [p.name for p in path.absolute().parent.iterdir() if p.suffix == ".py"]
    except OSError:
        return f", nor a folder {_shown_file(str(path.parent))}"
    near = get_close_matches(path.name, names, n=1)
    return (
        f"; did you mean {_shown_file(str(path.with_name(near[0])))}?" if near else ""
    )


def _near_here(where: str) -> str:
    """Return a hint at a file here whose name is like that of a missing module."""
    with contextlib.suppress(OSError):
        names = [path.stem for path in Path.cwd().glob("*.py")]
        near = get_close_matches(where, names, n=1)
        return f"; did you mean {near[0]!r}?" if near else ""
    return ""


def _shown_file(file: str | None) -> str:
    if file is None:
        return ""
    with contextlib.suppress(OSError, ValueError):
        if Path(file).is_relative_to(Path.cwd()):
            return one_line(os.path.relpath(file))
    return one_line(file)


def _article(part: Any) -> str:
    """Return in words what an object is that cannot be called."""
    if inspect.ismodule(part):
        return "a module"
    return f"{type(part).__name__!r} object" if part is not None else "None"


def _remember(what: str, kind: str, part: Any, file: str | None) -> None:
    """Note whose code it is, so that a failure in it is told as such."""
    code = getattr(inspect.unwrap(part), "__code__", None)
    source = getattr(code, "co_filename", None) or file
    own = faults.UserPlugin(what, kind, source)
    if own not in faults.OWN:
        faults.OWN.append(own)
