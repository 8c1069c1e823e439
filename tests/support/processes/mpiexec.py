"""Start programs under mpiexec from a test, whatever MPI is there, and clean up."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "FEDAPM_TEST_JOB"
"""Variable by which every process of a job is known, even once its parent is gone."""

OUTER = ("PMI", "PMIX", "OMPI_", "PRTE_", "HYDI_", "HYDRA_", "MPI_LOCAL", "PALS_")
"""Beginnings of what a launcher leaves in the environment; a job must not see them."""

RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    returncode: int | None
    """None if it had to be stopped because its time was up."""

    stdout: str
    stderr: str
    seconds: float
    left_behind: int
    """Processes that outlived the launcher, and were killed."""

    def __str__(self) -> str:
        return (
            f"exit code {self.returncode} after {self.seconds:.1f} s, "
            f"{self.left_behind} process(es) left\n--- stdout\n{self.stdout}"
            f"\n--- stderr\n{self.stderr}"
        )


@functools.cache
def find_mpiexec(python: str = sys.executable) -> tuple[str | None, str]:
    """Return the launcher that suits a Python, and its maker.

    It is ``$MPIEXEC`` (for the Python that runs the tests), else the one next to that
    Python, so that an environment need not be activated, else the first in ``$PATH``.
    """
    own = os.environ.get("MPIEXEC") if python == sys.executable else None
    neighbor = Path(python).parent / "mpiexec"
    found = own or (str(neighbor) if neighbor.exists() else shutil.which("mpiexec"))
    if found is None:
        return None, "none"
    printed = subprocess.run(
        [found, "--version"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    if "Open MPI" in printed or "OpenRTE" in printed or "PRTE" in printed:
        return found, "openmpi"
    return found, "mpich" if "hydra" in printed.lower() else "unknown"


def command(ranks: int | None, argv: Sequence[str], python: str) -> list[str]:
    """Return the command line; without a launcher where `ranks` is None."""
    if ranks is None:
        return [python, *argv]
    mpiexec, maker = find_mpiexec(python)
    if mpiexec is None:
        msg = "no mpiexec: install one (pip install mpich) or set MPIEXEC"
        raise RuntimeError(msg)
    flags = []
    if maker == "openmpi":
        flags = ["--oversubscribe", "--bind-to", "none"]
        flags += ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return [mpiexec, *flags, "-n", str(ranks), python, *argv]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a job: one thread a rank, no trace of an outer job."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith((*OUTER, "SLURM_"))
    }
    quick = {  # Open MPI looks for fabrics for a second otherwise
        "OMPI_MCA_pml": "ob1",
        "OMPI_MCA_btl": "^uct,ofi",
        "OMPI_MCA_mtl": "^ofi",
        "OMPI_MCA_osc": "^ucx",
    }
    fixed = {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    return clean | quick | fixed | dict(extra)


class Job:
    """A program on some ranks; a context manager that leaves no process behind.

    Parameters
    ----------
    ranks
        How many; None starts the program itself, without a launcher.
    argv
        What follows ``python``.
    env
        Variables on top of the cleaned environment.
    python
        The interpreter of the ranks.
    """

    def __init__(
        self,
        ranks: int | None,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        python: str = sys.executable,
    ) -> None:
        self._mark = uuid.uuid4().hex
        # Files, not pipes: a rank that outlives its launcher would keep a pipe open.
        self._files = [
            tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
            for _ in ("stdout", "stderr")
        ]
        self._start = time.monotonic()
        self.process = subprocess.Popen(
            command(ranks, argv, python),
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            env=environment({**(env or {}), MARK: self._mark}),
            cwd=cwd,
            start_new_session=True,
        )

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop(grace=0.0)
        for file in self._files:
            file.close()

    def wait(self, timeout: float) -> Ended:
        """Wait for the end; if it does not come in time, end it by force."""
        returncode = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            returncode = self.process.wait(timeout)
        seconds = time.monotonic() - self._start
        # Proxies need a moment to notice that all is over.
        patience = time.monotonic() + 2
        while returncode is not None and self.members() and time.monotonic() < patience:
            time.sleep(0.02)
        left = 0 if returncode is None else len(self.members())
        self.stop(grace=1.0)
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read())
        return Ended(returncode, *texts, seconds, left)

    def members(self) -> dict[int, dict[str, str]]:
        """Return the environment of every living process of the job, by its id."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                raw = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if self._mark.encode() in raw and state != "Z":
                pairs = (item.partition("=") for item in raw.decode().split("\0"))
                found[int(entry.name)] = {key: value for key, _, value in pairs}
        return found

    def rank(self, number: int) -> int:
        """Return the process id of a rank."""
        for pid, variables in sorted(self.members().items()):
            if any(variables.get(name) == str(number) for name in RANK_VARIABLES):
                return pid
        msg = f"rank {number} is not running"
        raise ProcessLookupError(msg)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the launcher."""
        self.process.send_signal(number)

    def stop(self, grace: float) -> None:
        """End whatever is still running.

        Ranks sit in process groups of their own, and those of a killed launcher may
        live on; so each process of the job is looked for and killed.
        """
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        for _ in range(100):
            left = self.members()
            if not left:
                break
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self.process.wait()


def run(
    ranks: int | None,
    argv: Sequence[str],
    *,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    python: str = sys.executable,
) -> Ended:
    """Run a program to its end; see `Job`."""
    with Job(ranks, argv, env=env, cwd=cwd, python=python) as job:
        return job.wait(timeout)
