"""Registries of plug-ins: each kind of component is found by its name."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins.installed import find_installed, installed_plugins
from fedapm_mpi.plugins.loader import load_plugin
from fedapm_mpi.plugins.names import absolute_name, file_exists, is_user_plugin
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.text import one_line

log = get_logger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


def did_you_mean(name: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or nothing."""
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Registry(Generic[F]):
    """The plug-ins of one kind.

    A plug-in is named in one of three ways:

    - A built-in one by its file: ``some-name`` is in the module ``some_name`` of the
      package, so looking it up imports that file and no other. Modules called ``base``
      or starting with an underscore, and sub-packages, hold no plug-in.
    - One of an installed distribution by its entry point; see `plugins.installed`. A
      built-in plug-in of the same name has precedence.
    - A user's own by ``module:attribute`` or ``./file.py:attribute``.

    Parameters
    ----------
    kind
        What the plug-ins are, for messages.
    package
        Dotted name of the package that holds the built-in ones. Its last part names
        the group of entry points: ``fedapm_mpi.algorithms``, for example.
    prefixes
        Built-in plug-ins that ``name:value`` is short for, each with the option that
        gets the value. They cannot be the first part of ``module:attribute``.
    """

    def __init__(
        self, kind: str, package: str, prefixes: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self.group = f"fedapm_mpi.{package.rpartition('.')[2]}"
        self._package = package
        self._prefixes = dict(prefixes or {})
        self._plugins: dict[str, F] = {}
        self._hiding: set[str] = set()

    def register(self, name: str) -> Callable[[F], F]:
        """Return a decorator that registers a built-in plug-in under `name`."""

        def enter(plugin: F) -> F:
            self._plugins[name] = plugin
            return plugin

        return enter

    def names(self) -> list[str]:
        """Return the names of the built-in and the installed plug-ins, sorted."""
        return sorted({*self.builtin_names(), *installed_plugins(self.group)})

    def builtin_names(self) -> list[str]:
        """Return the names of the plug-ins that come with the package, sorted."""
        package = importlib.import_module(self._package)
        modules = (
            module.name
            for module in pkgutil.iter_modules(package.__path__)
            if not module.ispkg
        )
        return sorted(
            name.replace("_", "-")
            for name in modules
            if name != "base" and not name.startswith("_")
        )

    def expand(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Return a plug-in's name and options, without a short form.

        A value that is the path of a folder becomes absolute, so that it means the same
        in any folder.

        Raises
        ------
        ConfigError
            If the option that the short form gives is given once more.
        """
        found, name = dict(part), part.get("name")
        if not isinstance(name, str):
            return found
        prefix, colon, value = name.partition(":")
        option = self._prefixes.get(prefix)
        if option is None:
            return found
        if colon:
            if option in found:
                msg = (
                    f"{self.kind} {one_line(name)!r} gives {option} already; leave "
                    f"{option} out, or name the {self.kind} {prefix!r}"
                )
                raise ConfigError(msg)
            found |= {"name": prefix, option: value}
        given = found.get(option)
        if isinstance(given, str) and "/" in given and Path(given).is_dir():
            found[option] = str(Path(given).absolute())
        return found

    def resolve(self, name: str) -> str:
        """Return a name that means the same on every rank and in any folder.

        A built-in plug-in keeps its name. An installed one gets its full name,
        ``module:attribute``; a user's own in a file, the absolute path. A warning is
        logged where a built-in plug-in hides an installed one. A name that is not
        known is returned as it is.

        Raises
        ------
        ConfigError
            If distributions declare different plug-ins of that name.
        """
        if is_user_plugin(name):
            return absolute_name(name)
        if name in self.builtin_names():
            self._warn_of_hidden(name)
            return name
        installed = find_installed(self.group, self.kind, name)
        return name if installed is None else installed.target

    def _warn_of_hidden(self, name: str) -> None:
        hidden = installed_plugins(self.group).get(name, [])
        if hidden and name not in self._hiding:
            self._hiding.add(name)
            ways = " or ".join(f"{p.target} ({p.distribution})" for p in hidden)
            log.warning(
                "%s %r is the built-in one; for the installed one write %s",
                self.kind,
                name,
                ways,
            )

    def get(self, name: str) -> F:
        """Return the plug-in called `name`; see `load_plugin` for a user's own.

        Raises
        ------
        ConfigError
            If there is no such plug-in; the message suggests the nearest name.
        """
        own: F
        if is_user_plugin(name):
            own = load_plugin(self.kind, name)
            return own
        if name in self.builtin_names():
            importlib.import_module(f"{self._package}.{name.replace('-', '_')}")
            return self._plugins[name]
        installed = find_installed(self.group, self.kind, name)
        if installed is None:
            raise self._unknown(name)
        try:
            own = load_plugin(self.kind, installed.target)
        except ConfigError as error:
            msg = f"{error}; {name!r} is an entry point of {installed.distribution}"
            raise ConfigError(msg) from error
        return own

    def _unknown(self, name: str) -> ConfigError:
        known = self.names()
        shown, hint = one_line(name), did_you_mean(name, known)
        if name.isidentifier() and file_exists(f"{name}.py"):
            hint = f"; for the file {shown}.py here write ./{shown}.py:NAME"
        return ConfigError(
            f"unknown {self.kind} {shown!r}{hint} (known: {', '.join(known)}; your "
            "own: module:name or ./file.py:name)"
        )
