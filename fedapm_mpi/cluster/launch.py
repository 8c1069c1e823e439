"""Select the launcher that starts ranks here, and build its command.

If launcher and MPI library do not match, ranks start without seeing each other, or not
at all. So the library that Python loads is identified first, and the launcher is
selected by it. MPI is not started.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fedapm_mpi.cluster.launchers import Job, launchers
from fedapm_mpi.cluster.launchers.srun import mpi_type
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins.errors import blame
from fedapm_mpi.plugins.names import is_user_plugin, user_plugin_label
from fedapm_mpi.utils.text import one_line

IMPLEMENTATIONS = (
    ("intel", "intel"),
    ("cray", "cray"),
    ("open mpi", "openmpi"),
    ("openrte", "openmpi"),
    ("prrte", "openmpi"),
    ("prte", "openmpi"),
    ("mvapich", "mvapich"),
    ("mpich", "mpich"),
    ("hydra", "mpich"),
)
"""Text in the version of a library or launcher, and its implementation."""

STARTED_BY = {
    "mpich": ("mpich", "intel"),
    "mvapich": ("mpich",),
    "intel": ("intel", "mpich"),
    "openmpi": ("openmpi",),
    "cray": ("cray",),
}
"""The implementations of mpiexec that can start each kind of library."""

NAMES = ("mpiexec", "mpirun", "mpiexec.hydra", "mpiexec.openmpi", "mpiexec.mpich")


class SelectedLauncher(NamedTuple):
    """A launcher on this machine."""

    name: str
    """Its name in the registry `launchers`."""

    program: str
    """Its path."""


def mpi_implementation(version: str) -> str:
    """Return the implementation of MPI that a version text names, else ``unknown``.

    One of mpich, mvapich, intel, openmpi, cray.
    """
    low = version.lower()
    return next((kind for mark, kind in IMPLEMENTATIONS if mark in low), "unknown")


def python_command(container: str | None) -> tuple[str, ...]:
    """Return the command of the Python that ranks run on.

    Raises
    ------
    ConfigError
        If there is no program to run a container by, or no such image.
    """
    if container is None:
        return (sys.executable,)
    program = shutil.which("apptainer") or shutil.which("singularity")
    if program is None:
        msg = "--container: there is neither apptainer nor singularity on the PATH"
        raise ConfigError(msg)
    if not Path(container).exists():
        msg = f"--container: there is no image {container}"
        raise ConfigError(msg)
    return (program, "exec", container, "python3")


@cache
def library(python: tuple[str, ...]) -> str | None:
    """Return name and version of the MPI library that a Python loads, or `None`.

    Another process loads it, so that MPI is neither loaded nor started in this one.
    """
    code = "from fedapm_mpi.comm.mpi import library; print(library())"
    environment = {**os.environ, "MPI4PY_RC_INITIALIZE": "0"}
    done = subprocess.run(
        [*python, "-c", code],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None


def select_launcher(kind: str, wanted: str = "auto") -> SelectedLauncher:
    """Return the launcher that starts ranks of a kind of MPI library here.

    Inside a SLURM job it is srun if SLURM supports the library; otherwise the mpiexec
    next to Python, or one on the PATH.

    Parameters
    ----------
    kind
        Implementation of the library, see `mpi_implementation`.
    wanted
        ``auto``; ``mpiexec`` for any but srun; or a launcher by name.

    Raises
    ------
    ConfigError
        If there is none, or none that matches the library.
    """
    if wanted not in ("auto", "mpiexec"):
        wanted = launchers.resolve(wanted)
    if is_user_plugin(wanted):
        return SelectedLauncher(wanted, wanted)
    if wanted not in ("auto", "mpiexec"):
        launchers.get(wanted)  # raises an error if it is unknown
    srun = shutil.which("srun")
    if wanted == "srun" and srun is None:
        msg = "launcher srun: there is no srun on the PATH; is this a SLURM cluster?"
        raise ConfigError(msg)
    if wanted == "srun" or (wanted == "auto" and _srun_suits(srun, kind)):
        return SelectedLauncher("srun", str(srun))
    seen = []
    for program, maker in programs():
        fits = maker == wanted or (
            wanted in ("auto", "mpiexec") and maker in STARTED_BY.get(kind, (maker,))
        )
        if fits and maker in launchers.builtin_names():
            return SelectedLauncher(maker, program)
        seen.append(f"{program} ({maker})")
    found = f"only {', '.join(seen)}" if seen else "none"
    what = f"no {wanted}" if wanted not in ("auto", "mpiexec") else "no launcher"
    msg = (
        f"{what} for the MPI library that Python loads ({kind}), found {found}; load "
        "that MPI's module, or install one with its launcher: pip install mpich"
    )
    raise ConfigError(msg)


def command(
    job: Job,
    words: Sequence[str],
    *,
    launcher: str = "auto",
    python: tuple[str, ...] = (),
) -> list[str]:
    """Return the command that runs ``fedapm WORDS`` on the ranks of a job.

    One rank needs no launcher. Ranks run on this Python, or by the words given as
    `python`, see `python_command`.

    Raises
    ------
    ConfigError
        If there is no MPI library, or no launcher for it.
    """
    python = python or (sys.executable,)
    program = [*python, "-m", "fedapm_mpi", *words]
    if job.ranks == 1 and launcher == "auto":
        return program
    version = library(python)
    if version is None:
        msg = (
            f"{' '.join(python)} cannot load an MPI library; load your cluster's MPI "
            "module, or install one: pip install mpich"
        )
        raise ConfigError(msg)
    kind = mpi_implementation(version)
    chosen = select_launcher(kind, launcher)
    return [*_started_by(chosen, job, kind), *program]


def _started_by(chosen: SelectedLauncher, job: Job, kind: str) -> list[str]:
    """Return the command of a launcher, checked if it is a user plug-in."""
    what = user_plugin_label("launcher", chosen.name)
    with blame(what):
        words = launchers.get(chosen.name)(chosen.program, job, kind)
    if what is None:
        return words
    good = isinstance(words, list | tuple) and all(isinstance(w, str) for w in words)
    if not good or not words:
        msg = (
            f"{what} gave {one_line(repr(words))}; it must return a list of strings, "
            "the words of the command that starts the ranks"
        )
        raise ConfigError(msg)
    return list(words)


def mpi_types(srun: str) -> list[str]:
    """Return the values of srun's ``--mpi`` that this cluster supports."""
    done = subprocess.run(
        [srun, "--mpi=list"], capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).replace(",", " ").split()


def launcher_version(program: str) -> str | None:
    """Return the release of a launcher, such as 5.0.2."""
    found = re.search(r"\d+(?:\.\d+)+", _version_text(program))
    return found[0] if found else None


def programs() -> Iterator[tuple[str, str]]:
    """Yield path and implementation of each mpiexec here, in order of preference."""
    for program in _programs():
        yield program, mpi_implementation(_version_text(program))


def first_program() -> str | None:
    """Return the path of mpiexec, or else of mpirun; `None` if there is neither."""
    return shutil.which("mpiexec") or shutil.which("mpirun")


def _srun_suits(srun: str | None, kind: str) -> bool:
    if srun is None or "SLURM_JOB_ID" not in os.environ:
        return False
    return mpi_type(kind) in mpi_types(srun)


def _programs() -> list[str]:
    """Return the paths of every mpiexec: next to Python, then on the PATH."""
    own = Path(sys.executable).with_name("mpiexec")
    found = [str(own)] if own.exists() else []
    known = [path for name in NAMES if (path := shutil.which(name)) is not None]
    return found + [path for path in known if path not in found]


def _version_text(program: str) -> str:
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr
