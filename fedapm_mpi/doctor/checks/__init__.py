"""The checks: pure functions from all that was seen to findings.

To add one, write it in a file here and name it in `CHECKS`.
"""

from collections.abc import Callable, Iterable

from ..findings import LEVELS, Finding, Observed
from .data import manifests, shards
from .folder import file_system, locks, writing
from .hosts import clocks, memory
from .measured import wrong_results
from .processors import binding, gpu_sharing, oversubscription
from .software import versions
from .starting import (
    installed_libraries,
    launchers,
    loaded_libraries,
    no_library,
    shadowed_libraries,
    singletons,
)

Check = Callable[[Observed], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    no_library,
    singletons,
    loaded_libraries,
    installed_libraries,
    shadowed_libraries,
    launchers,
    wrong_results,
    versions,
    oversubscription,
    binding,
    gpu_sharing,
    memory,
    clocks,
    writing,
    file_system,
    locks,
    manifests,
    shards,
)


def examine(observed: Observed) -> list[Finding]:
    """Return what all checks find, the worst first."""
    found = [finding for check in CHECKS for finding in check(observed)]
    return sorted(found, key=lambda one: LEVELS.index(one.level))
