"""Whether ranks were started by a launcher that belongs to their MPI library."""

from collections.abc import Iterator
from pathlib import Path

from fedapm_mpi.cluster.launch import STARTED_BY, mpi_implementation
from fedapm_mpi.cluster.launchers.srun import mpi_type
from fedapm_mpi.doctor.findings import Finding, Observations, names
from fedapm_mpi.doctor.launch_env import mismatch, name_of

INSTALL = "load your cluster's MPI module, or install one: pip install mpich"


def no_library(observed: Observations) -> Iterator[Finding]:
    """Tell where there is no MPI to load: many processes cannot train then."""
    lacking = [one for one in observed.ranks if one.library is None]
    if not lacking:
        return
    first = lacking[0]
    why = f"Python can load no MPI library ({first.library_error})"
    if first.launched > 1:
        what = f"{_started(observed)} {first.launched} ranks, but on {first.host} {why}"
        yield Finding("fault", "no MPI", what, INSTALL)
    else:
        mend = f"one process trains without it; for more, {INSTALL}"
        yield Finding("warning", "no MPI", why, mend)


def singletons(observed: Observations) -> Iterator[Finding]:
    """Tell why ranks that were started together do not see each other."""
    one = observed.ranks[0]
    if one.library is None or one.launched == one.size:
        return
    alone = "each is alone" if one.size == 1 else f"MPI knows of {one.size}"
    if one.launched == 1:  # say, by a launcher of which nothing is known
        return
    kind = mpi_implementation(one.library)
    what = f"{_started(observed)} {one.launched} ranks ({one.launched_by}), but {alone}"
    told = mismatch(kind, one.launcher, one.pmi)
    under = f" under {told}" if told else ""
    what += f": {one.library} cannot find the others{under}"
    yield Finding("fault", "singletons", what, _way(observed, kind))


def loaded_libraries(observed: Observations) -> Iterator[Finding]:
    """Tell where two MPI libraries are loaded at once."""
    several = [one for one in observed.ranks if len(one.libraries) > 1]
    if several:
        every = " and ".join(several[0].libraries)
        what = f"rank {several[0].rank} has loaded two MPI libraries, {every}"
        mend = (
            "something that Python imports, such as an h5py built for MPI, was built "
            "with another one than mpi4py loads: install it for that one, or the h5py "
            "from PyPI, which needs none"
        )
        yield Finding("fault", "two MPI libraries", what, mend)
    kinds = {mpi_implementation(one.library) for one in observed.ranks if one.library}
    if len(kinds) > 1:
        what = f"ranks load different MPI libraries ({names(sorted(kinds))})"
        mend = "load the same module and the same environment on every host"
        yield Finding("fault", "two MPI libraries", what, mend)


def installed_libraries(observed: Observations) -> Iterator[Finding]:
    """Tell where two packages that bring an MPI are installed."""
    for one in observed.ranks:
        if len(one.wheels) > 1:
            every = " and ".join(f"{name} {v}" for name, v in one.wheels.items())
            what = (
                f"the packages {every} are both installed on {one.host}: mpiexec is of "
                "the one installed last, the library of the first found"
            )
            mend = f"pip uninstall {' '.join(one.wheels)}, then install the one wanted"
            yield Finding("warning", "two MPI libraries", what, mend)
            return


def shadowed_libraries(observed: Observations) -> Iterator[Finding]:
    """Tell where a module offers another MPI library than Python loads."""
    for one in observed.ranks:
        folders = {str(Path(path).parent) for path in one.libraries}
        others = [p for p in one.offered if str(Path(p).parent) not in folders]
        if one.libraries and others:
            what = (
                f"on {one.host} Python loads {one.libraries[0]}, though "
                f"LD_LIBRARY_PATH offers {others[0]}"
            )
            mend = (
                "if that one is your cluster's, pip uninstall the MPI of the "
                "environment, which shadows it; else unload its module"
            )
            yield Finding("warning", "two MPI libraries", what, mend)
            return


def launchers(observed: Observations) -> Iterator[Finding]:
    """Tell where the launcher at hand is of another MPI than the library."""
    told, seen = observed.launchers.library, observed.launchers
    if told is None or observed.ranks[0].launched > 1:  # one has done its work
        return
    kind = mpi_implementation(told)
    suiting = (*STARTED_BY.get(kind, (kind,)), "unknown")
    fit = [path for path, maker in seen.programs if maker in suiting]
    first = dict(seen.programs).get(seen.first or "", "unknown")
    if not fit:
        found = names(f"{path} of {name_of(maker)}" for path, maker in seen.programs)
        what = f"there is no launcher for {told}, found {found or 'none'}"
        mend = f"load its module, or start ranks by srun --mpi={mpi_type(kind)}"
        yield Finding("warning", "other launcher", what, mend)
    elif first not in suiting:
        what = (
            f"the first mpiexec on the PATH, {seen.first}, is of {name_of(first)}, but "
            f"Python loads {told}"
        )
        mend = f"start ranks by {fit[0]} or by fedapm launch, which chooses it"
        yield Finding("warning", "other launcher", what, mend)


def _started(observed: Observations) -> str:
    launcher = observed.ranks[0].launcher
    if launcher == "srun":
        return "srun started"
    return f"mpiexec of {name_of(launcher)} started" if launcher else "there should be"


def _way(observed: Observations, kind: str) -> str:
    """Return how ranks of a kind of library are to be started here."""
    known, wanted = observed.launchers.slurm_types, mpi_type(kind)
    suiting = STARTED_BY.get(kind, (kind,))
    fit = [path for path, maker in observed.launchers.programs if maker in suiting]
    own = f"{fit[0]}, the mpiexec of that library" if fit else "that library's mpiexec"
    if observed.ranks[0].launcher != "srun":
        return f"start them by {own}, or by fedapm launch, which chooses it"
    if known and wanted not in known:
        return (
            f"this SLURM does not know --mpi={wanted}, so start them by {own} "
            "(FEDAPM_LAUNCHER=mpiexec for launch/train.sbatch)"
        )
    return f"start them by srun --mpi={wanted}, or by {own}"
