"""Parts found by name: the one way to plug something into an experiment."""

import importlib
import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins import loader as ownparts
from fedapm_mpi.utils.text import one_line

F = TypeVar("F", bound=Callable[..., Any])


def did_you_mean(name: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or nothing."""
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Registry(Generic[F]):
    """The parts of one kind, each in a file of its own.

    The part called ``some-name`` lives in the module ``some_name`` of the package,
    so looking one up imports that file and no other. Modules called ``base`` or
    starting with an underscore hold no part. A user's own part is named
    ``module:attribute`` or ``./file.py:attribute``, and need not be registered.

    Parameters
    ----------
    kind
        What the parts are, for messages.
    package
        Dotted name of the package that holds them.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._parts: dict[str, F] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Return a decorator that enters a part under `name`."""

        def enter(part: F) -> F:
            self._parts[name] = part
            return part

        return enter

    def names(self) -> list[str]:
        """Return the names of the parts that come with the package, sorted."""
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

    def get(self, name: str) -> F:
        """Return the part called `name`, or the user's own; see `ownparts.load`.

        Raises
        ------
        ConfigError
            If there is no such part; the message suggests the nearest name.
        """
        if ownparts.is_user_plugin(name):
            own: F = ownparts.load(self.kind, name)
            return own
        known = self.names()
        if name not in known:
            shown, hint = one_line(name), did_you_mean(name, known)
            if name.isidentifier() and ownparts.is_there(f"{name}.py"):
                hint = f"; for the file {shown}.py here write ./{shown}.py:NAME"
            msg = (
                f"unknown {self.kind} {shown!r}{hint} (known: {', '.join(known)}; your "
                "own: module:name or ./file.py:name)"
            )
            raise ConfigError(msg)
        importlib.import_module(f"{self._package}.{name.replace('-', '_')}")
        return self._parts[name]
