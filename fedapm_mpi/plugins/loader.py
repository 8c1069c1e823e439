"""Load users' plug-ins: ``module:name``, or a file and a name, ``./plain.py:plain``.

A file is loaded under a module name made from its path, so that no module hides
another. Its folder is appended to ``sys.path``, so that it can import its neighbors;
appended, so that a file called ``random.py`` there does not replace a library's. What
code prints while it is imported goes to the standard error.
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
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins import errors
from fedapm_mpi.plugins.names import names_file, path_of, plugin_label
from fedapm_mpi.utils.text import one_line

MODULE_PREFIX = "fedapm_own_"
"""How the module names of files begin."""

DEPENDENCIES = ("numpy", "torch")
"""Packages that this one uses as well, so that errors in them say nothing of whose."""

_forbidden: list[str] = []
"""Reasons for which no plug-in may be imported at present."""


@contextlib.contextmanager
def forbid_imports(reason: str) -> Iterator[None]:
    """Refuse to import users' plug-ins inside the context, with a reason."""
    _forbidden.append(reason)
    try:
        yield
    finally:
        _forbidden.pop()


def may_import() -> bool:
    """Return whether users' plug-ins may be imported; see `forbid_imports`."""
    return not _forbidden


def load_plugin(kind: str, name: str) -> Any:
    """Import a user's plug-in and return it.

    Raises
    ------
    ConfigError
        If it cannot be imported, or cannot be called; the message states why, where,
        and the remedy.
    """
    label = plugin_label(kind, name)
    if _forbidden:
        msg = f"{label} is a user's code, which is not imported here: {_forbidden[-1]}"
        raise ConfigError(msg)
    where, attribute = _split_name(label, name)
    if names_file(name):
        module = _import_file(label, where)
    else:
        module = _import_module(label, where, attribute)
    plugin = _get_attribute(label, module, attribute, where)
    file = getattr(module, "__file__", None)
    if not callable(plugin):
        msg = (
            f"{label}: {attribute!r} in {_display_file(file) or where} is "
            f"{_describe(plugin)}; it must be a function or class that can be called"
        )
        raise ConfigError(msg)
    _record_loaded(label, kind, plugin, module)
    return plugin


def loaded_module(name: str) -> ModuleType | None:
    """Return the module of a plug-in that was loaded, else `None`."""
    where = name.rpartition(":")[0]
    if names_file(name):
        found = _loaded_from(os.path.realpath(where))
        return found or sys.modules.get(module_name(where))
    return sys.modules.get(where)


def module_name(path: str) -> str:
    """Return the name under which a file is loaded: the same for the same file."""
    real = os.path.realpath(path)
    stem = "".join(c if c.isalnum() else "_" for c in Path(real).stem)
    return f"{MODULE_PREFIX}{stem}_{sha256(os.fsencode(real)).hexdigest()[:12]}"


def _split_name(label: str, name: str) -> tuple[str, str]:
    """Return module or file, and attribute."""
    where, colon, attribute = name.rpartition(":")
    if not colon and Path(name).suffix == ".py":
        path = one_line(name if "/" in name else f"./{name}")
        msg = f"{label}: name the function or class in the file, as in {path}:NAME"
        raise ConfigError(msg)
    good = all(step.isidentifier() for step in attribute.split("."))
    if not names_file(name):
        good = good and all(step.isidentifier() for step in where.split("."))
    if not where or not good or "\0" in name:
        msg = (
            f"{label} is not a name: write module:name or ./file.py:name, where the "
            "name is that of a function or class in it"
        )
        raise ConfigError(msg)
    return where, attribute


def _import_file(label: str, where: str) -> ModuleType:
    """Return the module of a file, which is loaded once under whatever name."""
    real = os.path.realpath(_check_file(label, where))
    known = _loaded_from(real)
    if known is not None:
        return known
    name = module_name(where)
    spec = importlib.util.spec_from_file_location(name, real)
    assert spec is not None
    _append_to_path(str(Path(real).parent))
    try:
        return _execute(spec)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _import_error(label, error, real) from error


def _check_file(label: str, where: str) -> Path:
    """Return the path of a Python file that exists.

    Raises
    ------
    ConfigError
        If there is none.
    """
    path = path_of(where)
    try:
        there, folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:
        reason = errors.describe_error(error)
        msg = f"{label}: cannot look for the file ({reason})"
        raise ConfigError(msg) from error
    if folder:
        msg = f"{label}: {_display_file(where)} is a folder; name a file in it"
        raise ConfigError(msg)
    if not there:
        msg = f"{label}: there is no file {_display_file(where)}{_nearest_file(path)}"
        raise ConfigError(msg)
    if path.suffix != ".py":
        msg = f"{label}: {_display_file(where)} is not a .py file"
        raise ConfigError(msg)
    return path


def _execute(spec: ModuleSpec) -> ModuleType:
    """Return a new module; it is not kept if executing it fails."""
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and type hints look there
    try:
        with _isolated_streams():
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise
    return module


def _import_module(label: str, where: str, attribute: str) -> ModuleType:
    if "" not in sys.path:
        _append_to_path(str(Path.cwd()))  # as "python -m" would, but last
    importlib.invalidate_caches()  # for files that were written a moment ago
    try:
        with _isolated_streams():
            module = importlib.import_module(where)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if _is_missing(error, where):
            file = f"./{where.replace('.', '/')}.py:{attribute}"
            msg = (
                f"{label}: cannot import {where!r} ({one_line(str(error))}); "
                "run from its folder, put that on PYTHONPATH, install it, or name its "
                f"file, as in {file}{_nearest_module(where)}"
            )
            raise ConfigError(msg) from error
        raise _import_error(label, error, _file_of_module(where)) from error
    _refuse_ambiguous(label, module, where, attribute)
    return module


def _file_of_module(where: str) -> str | None:
    """Return the file of a module that could not be imported, if it can be found."""
    try:
        spec = importlib.util.find_spec(where)
    except BaseException:  # of a package that it is in
        return None
    return None if spec is None else spec.origin


def _is_missing(error: BaseException, where: str) -> bool:
    """Return whether a module was not found, rather than a module that it imports."""
    if not isinstance(error, ModuleNotFoundError) or errors.user_location(error):
        return False
    name = error.name or ""
    return where == name or where.startswith(f"{name}.")


def _import_error(label: str, error: BaseException, file: str | None) -> ConfigError:
    """Return the error to raise where a module raised while it was imported."""
    location = errors.user_location(error)
    if not location and file is not None:
        location = f" ({_display_file(file)})"
    text = f"{label} was found, but its import failed: {errors.describe_error(error)}"
    text += location or errors.innermost_location(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        text += f"; install {error.name.split('.')[0]!r} or put it on PYTHONPATH"
    if "relative import with no known parent package" in text:
        text += "; name a file of a package by its module, package.file:NAME"
    if isinstance(error, RecursionError):
        text += errors.ENDLESS_RECURSION
    made = ConfigError(text)
    errors.with_traceback(made, error)
    return made


def _refuse_ambiguous(
    label: str, module: ModuleType, where: str, attribute: str
) -> None:
    """Refuse a module if the working directory has another file of its name."""
    local = Path(*where.split("."))
    file = getattr(module, "__file__", None)
    for path in (local.with_suffix(".py"), local / "__init__.py"):
        if not path.is_file() or (file and _same_file(path, file)):
            continue
        if file and local.with_suffix(".py").is_file() and path.name == "__init__.py":
            continue
        msg = (
            f"{label}: module {where!r} is {file or 'built into Python'}, not the file "
            f"{path} here; if that is meant, write ./{path}:{attribute}"
        )
        if file:
            msg += f", otherwise {file}:{attribute}"
        raise ConfigError(msg)


def _same_file(path: Path, file: str) -> bool:
    try:
        return path.samefile(file)
    except OSError:
        return False


def _get_attribute(label: str, module: ModuleType, attribute: str, where: str) -> Any:
    found: Any = module
    for step in attribute.split("."):
        try:
            with _isolated_streams():
                found = getattr(found, step)
        except AttributeError:
            public = [n for n in vars(found) if not n.startswith("_")]
            near = get_close_matches(step, public, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if found is module and _is_submodule(module, step):
                hint = f"; for the module {step!r} in it write {where}.{step}:NAME"
            file = _display_file(getattr(module, "__file__", None)) or where
            msg = f"{label}: {file} has no {step!r}{hint}"
            raise ConfigError(msg) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module's own __getattr__
            raise _import_error(label, error, None) from error
    return found


def _is_submodule(module: ModuleType, name: str) -> bool:
    folders = getattr(module, "__path__", ())
    return any((Path(folder) / f"{name}.py").is_file() for folder in folders)


@contextlib.contextmanager
def _isolated_streams() -> Iterator[None]:
    """Keep imported code from the standard output, and from waiting for input."""
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        before, sys.stdin = sys.stdin, nothing
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            sys.stdin = before


def _loaded_from(real: str) -> ModuleType | None:
    """Return the module that was loaded from a file, whatever it is called."""
    base = Path(real).name
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if not isinstance(file, str) or Path(file).name != base:
            continue
        if os.path.realpath(file) == real:
            return module
    return None


def _append_to_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()


def _nearest_file(path: Path) -> str:
    """Return a hint at the file whose name is most like a missing one's."""
    try:
        names = [p.name for p in path.absolute().parent.iterdir() if p.suffix == ".py"]
    except OSError:
        return f", nor a folder {_display_file(str(path.parent))}"
    near = get_close_matches(path.name, names, n=1)
    return (
        f"; did you mean {_display_file(str(path.with_name(near[0])))}?" if near else ""
    )


def _nearest_module(where: str) -> str:
    """Return a hint at a file here whose name is like that of a missing module."""
    with contextlib.suppress(OSError):
        names = [path.stem for path in Path.cwd().glob("*.py")]
        near = get_close_matches(where, names, n=1)
        return f"; did you mean {near[0]!r}?" if near else ""
    return ""


def _display_file(file: str | None) -> str:
    if file is None:
        return ""
    with contextlib.suppress(OSError, ValueError):
        if Path(file).is_relative_to(Path.cwd()):
            return one_line(os.path.relpath(file))
    return one_line(file)


def _describe(value: Any) -> str:
    """Return in words what an object is that cannot be called."""
    if inspect.ismodule(value):
        return "a module"
    return f"{type(value).__name__!r} object" if value is not None else "None"


def _record_loaded(label: str, kind: str, plugin: Any, module: ModuleType) -> None:
    """Record whose code a plug-in is, so that errors in it name it."""
    code = getattr(inspect.unwrap(plugin), "__code__", None)
    file = getattr(module, "__file__", None)
    source = getattr(code, "co_filename", None) or file
    found = errors.UserPlugin(label, kind, source, _package_folder(module))
    if found not in errors.LOADED:
        errors.LOADED.append(found)


def _package_folder(module: ModuleType) -> str | None:
    """Return the folder of the top-level package that a module is in, if any."""
    name, inside, _ = module.__name__.partition(".")
    if not inside or name in DEPENDENCIES:
        return None
    package = sys.modules.get(name)
    file = getattr(package, "__file__", None)
    return None if file is None else str(Path(file).parent)
