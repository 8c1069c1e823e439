"""Whether launcher and MPI library match, and collectives are right."""

from collections.abc import Iterator
from pathlib import Path

from fedapm_mpi.cluster.launch import STARTED_BY, mpi_implementation
from fedapm_mpi.cluster.launchers.srun import mpi_type
from fedapm_mpi.doctor.findings import Finding, Observations, names
from fedapm_mpi.doctor.launch_env import mismatch, name_of

WRONG_RESULTS_REMEDY = (
    "do not train with this MPI: try its own launcher, another network (UCX_TLS=tcp, "
    "FI_PROVIDER=tcp), or another library"
)

INSTALL = "load your cluster's MPI module, or install one: pip install mpich"


def no_library(observed: Observations) -> Iterator[Finding]:
    """Find hosts without an MPI library, where only one process can train."""
    without = [one for one in observed.ranks if one.library is None]
    if not without:
        return
    first = without[0]
    why = f"Python cannot load an MPI library ({first.library_error})"
    if first.launched > 1:
        what = f"{_started(observed)} {first.launched} ranks, but on {first.host} {why}"
        yield Finding("fault", "no MPI", what, INSTALL)
    else:
        remedy = f"a single process trains without it; for more, {INSTALL}"
        yield Finding("warning", "no MPI", why, remedy)


def singletons(observed: Observations) -> Iterator[Finding]:
    """Find why ranks that were started together do not see each other."""
    one = observed.ranks[0]
    if one.library is None or one.launched == one.size:
        return
    if one.launched == 1:  # say, by a launcher that is unknown
        return
    alone = "each is alone" if one.size == 1 else f"MPI knows of {one.size}"
    kind = mpi_implementation(one.library)
    what = f"{_started(observed)} {one.launched} ranks ({one.launched_by}), but {alone}"
    unsuitable = mismatch(kind, one.launcher, one.pmi)
    under = f" under {unsuitable}" if unsuitable else ""
    what += f": {one.library} cannot find the others{under}"
    yield Finding("fault", "singletons", what, _how_to_start(observed, kind))


def loaded_libraries(observed: Observations) -> Iterator[Finding]:
    """Find ranks that load several MPI libraries, or different ones."""
    several = [one for one in observed.ranks if len(one.libraries) > 1]
    if several:
        every = " and ".join(several[0].libraries)
        what = f"rank {several[0].rank} has loaded two MPI libraries, {every}"
        remedy = (
            "a package that Python imports, such as an h5py built for MPI, was built "
            "with another library than mpi4py loads: build it for that library, or "
            "install the h5py from PyPI, which needs none"
        )
        yield Finding("fault", "two MPI libraries", what, remedy)
    kinds = {mpi_implementation(one.library) for one in observed.ranks if one.library}
    if len(kinds) > 1:
        what = f"ranks load different MPI libraries ({names(sorted(kinds))})"
        remedy = "load the same module and the same environment on every host"
        yield Finding("fault", "two MPI libraries", what, remedy)


def installed_libraries(observed: Observations) -> Iterator[Finding]:
    """Find a host with several installed packages that contain an MPI library."""
    for one in observed.ranks:
        if len(one.wheels) > 1:
            every = " and ".join(f"{name} {v}" for name, v in one.wheels.items())
            what = (
                f"the packages {every} are both installed on {one.host}: mpiexec "
                "belongs to the one installed last, the library to the first found"
            )
            remedy = f"pip uninstall {' '.join(one.wheels)}, then install one of them"
            yield Finding("warning", "two MPI libraries", what, remedy)
            return


def shadowed_libraries(observed: Observations) -> Iterator[Finding]:
    """Find a host where a module offers another MPI library than Python loads."""
    for one in observed.ranks:
        folders = {str(Path(path).parent) for path in one.libraries}
        others = [p for p in one.offered if str(Path(p).parent) not in folders]
        if one.libraries and others:
            what = (
                f"on {one.host} Python loads {one.libraries[0]}, though "
                f"LD_LIBRARY_PATH offers {others[0]}"
            )
            remedy = (
                "if the offered one is your cluster's, pip uninstall the MPI of the "
                "environment, which shadows it; else unload its module"
            )
            yield Finding("warning", "two MPI libraries", what, remedy)
            return


def launchers(observed: Observations) -> Iterator[Finding]:
    """Find that the first launcher belongs to another MPI than the library."""
    installed, library = observed.launchers, observed.launchers.library
    if library is None or observed.ranks[0].launched > 1:  # a launcher has worked
        return
    kind = mpi_implementation(library)
    suiting = (*STARTED_BY.get(kind, (kind,)), "unknown")
    fit = [path for path, maker in installed.programs if maker in suiting]
    first = dict(installed.programs).get(installed.first or "", "unknown")
    if not fit:
        found = names(
            f"{path} of {name_of(maker)}" for path, maker in installed.programs
        )
        what = f"there is no launcher for {library}, found {found or 'none'}"
        remedy = f"load its module, or start ranks by srun --mpi={mpi_type(kind)}"
        yield Finding("warning", "other launcher", what, remedy)
    elif first not in suiting:
        what = (
            f"the first mpiexec on the PATH, {installed.first}, belongs to "
            f"{name_of(first)}, but Python loads {library}"
        )
        remedy = f"start ranks by {fit[0]} or by fedapm launch, which chooses it"
        yield Finding("warning", "other launcher", what, remedy)


def wrong_results(observed: Observations) -> Iterator[Finding]:
    """Find collectives whose results differ from the closed form."""
    if observed.measured and observed.measured.wrong:
        what = names(observed.measured.wrong)
        yield Finding("fault", "collectives", what, WRONG_RESULTS_REMEDY)


def _started(observed: Observations) -> str:
    launcher = observed.ranks[0].launcher
    if launcher == "srun":
        return "srun started"
    return f"mpiexec of {name_of(launcher)} started" if launcher else "there should be"


def _how_to_start(observed: Observations, kind: str) -> str:
    """Return how to start ranks of a kind of library here."""
    supported, wanted = observed.launchers.slurm_types, mpi_type(kind)
    suiting = STARTED_BY.get(kind, (kind,))
    fit = [path for path, maker in observed.launchers.programs if maker in suiting]
    mpiexec = (
        f"{fit[0]}, the mpiexec of that library" if fit else "that library's mpiexec"
    )
    if observed.ranks[0].launcher != "srun":
        return f"start them by {mpiexec}, or by fedapm launch, which chooses it"
    if supported and wanted not in supported:
        return (
            f"this SLURM does not know --mpi={wanted}, so start them by {mpiexec} "
            "(FEDAPM_LAUNCHER=mpiexec for launch/train.sbatch)"
        )
    return f"start them by srun --mpi={wanted}, or by {mpiexec}"
