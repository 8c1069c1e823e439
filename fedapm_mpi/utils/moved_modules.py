"""Modules under their former names, for users' code that imports them by these."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "fedapm_mpi.runs": ("fedapm_mpi.analysis.client_model", "fedapm_mpi.analysis.run"),
    "fedapm_mpi.shards": (
        "fedapm_mpi.data.reader",
        "fedapm_mpi.data.writer",
        "fedapm_mpi.data.manifest",
        "fedapm_mpi.data.table",
    ),
    "fedapm_mpi.stages": ("fedapm_mpi.models.base",),
    "fedapm_mpi.tables": ("fedapm_mpi.data.table",),
}
"""Former names that the documentation gave to users, and where their contents are."""


class _Finder(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Loader()) if fullname in MOVED else None


class _Loader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        former = module.__name__
        present = MOVED[former]

        def find(name: str) -> Any:
            if not name.startswith("__"):
                for where in present:
                    found = import_module(where)
                    if hasattr(found, name):
                        warnings.warn(
                            f"{former}.{name} is now {where}.{name}",
                            DeprecationWarning,
                            stacklevel=2,
                        )
                        return getattr(found, name)
            msg = f"module {former!r} has no attribute {name!r}"
            raise AttributeError(msg)

        module.__getattr__ = find  # type: ignore[method-assign]


def install() -> None:
    """Let former names be imported; nothing is loaded before one is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
