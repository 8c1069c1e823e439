"""The checks: pure functions from observations to findings.

To add one, write it in a file here and add it to `CHECKS`.
"""

from collections.abc import Callable, Iterable

from fedapm_mpi.doctor.checks.affinity import binding, gpu_sharing, oversubscription
from fedapm_mpi.doctor.checks.data import manifests, shards
from fedapm_mpi.doctor.checks.filesystem import file_system, locks, writing
from fedapm_mpi.doctor.checks.hosts import clocks, memory
from fedapm_mpi.doctor.checks.mpi import (
    installed_libraries,
    launchers,
    loaded_libraries,
    no_library,
    shadowed_libraries,
    singletons,
    wrong_results,
)
from fedapm_mpi.doctor.checks.processors import processors
from fedapm_mpi.doctor.checks.versions import versions
from fedapm_mpi.doctor.findings import LEVELS, Finding, Observations

Check = Callable[[Observations], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    no_library,
    singletons,
    loaded_libraries,
    installed_libraries,
    shadowed_libraries,
    launchers,
    wrong_results,
    versions,
    processors,
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


def run_checks(observed: Observations) -> list[Finding]:
    """Return the findings of all checks, the most severe first."""
    found = [finding for check in CHECKS for finding in check(observed)]
    return sorted(found, key=lambda one: LEVELS.index(one.level))
