"""A SLURM cluster that ``cluster-up.sh`` started, and the jobs on it."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import fedapm

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "launch" / "train.sbatch"
NOT_TO_BE_HAD = 77
"""Exit code of cluster-up.sh where this machine cannot have a cluster."""

PATIENCE = 240.0
"""Seconds to wait for a job, or for a chain of seven: a minute on a free machine."""

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


class State(NamedTuple):
    """What SLURM says of a job."""

    name: str
    restarts: int
    exit_code: str


class Cluster:
    """A cluster that is up.

    Parameters
    ----------
    box
        The directory given to cluster-up.sh.
    folder
        Where jobs are submitted, with the configuration and the data.
    """

    def __init__(self, box: Path, folder: Path) -> None:
        self.folder = folder
        self.conf = {"SLURM_CONF": str(box / "slurm.conf")}

    def call(self, *command: str, **variables: str) -> str:
        """Run a SLURM command and return what it prints."""
        done = subprocess.run(
            command,
            env=environment(**self.conf, **variables),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, nodes: int, tasks: int, *words: str, **variables: str) -> str:
        """Submit launch/train.sbatch with its arguments; return the job's number."""
        options = ("--parsable", f"--nodes={nodes}", f"--ntasks={tasks}")
        return self.call("sbatch", *options, str(SCRIPT), *words, **variables)

    def fedapm(self, *words: object) -> str:
        """Run a command of ``fedapm`` on the login node and return what it prints."""
        return self.call(sys.executable, *fedapm(*words))

    def state(self, job: str) -> State:
        """Return the state of a job."""
        text = self.call("scontrol", "show", "job", "--oneliner", job)
        found = dict(re.findall(r"(\w+)=(\S+)", text))
        return State(found["JobState"], int(found["Restarts"]), found["ExitCode"])

    def element(self, array: str, index: int) -> str:
        """Return the number of the job that is an element of an array."""
        shown = self.call("scontrol", "show", "job", "--oneliner", f"{array}_{index}")
        return re.findall(r"\bJobId=(\d+)", shown)[0]

    def wait(self, job: str) -> State:
        """Wait for the end of a job and return its last state."""
        self.wait_until(job, lambda: self.state(job).name in ENDED)
        return self.state(job)

    def wait_for(self, job: str, *names: str) -> str:
        """Wait until a job's state is one of these, and return which."""
        self.wait_until(job, lambda: self.state(job).name in {*names, *ENDED})
        return self.state(job).name

    def wait_until(self, job: str, done: Callable[[], bool]) -> None:
        """Wait for something that a job does; tell what it printed if it does not."""
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                pytest.fail(f"{self.state(job)}\n{self.output(job)}")
            time.sleep(0.1)

    def output(self, job: str) -> str:
        """Return what a job printed."""
        files = sorted(self.folder.glob(f"**/*-{job}.out"))
        return "".join(file.read_text() for file in files)

    def run_directory(self, job: str) -> Path:
        """Return where a job's run is, or will be."""
        return self.folder / "runs" / job

    def rounds(self, job: str) -> int:
        """Return how many rounds a job has written down."""
        return rounds_in(self.run_directory(job))

    def process(self, job: str, task: int) -> int:
        """Return the process of a job's task; all nodes are on this machine."""
        wanted = {f"SLURM_JOB_ID={job}", f"SLURM_PROCID={task}", "SLURM_STEP_ID=0"}
        for pid, variables in self._processes("python"):
            if wanted <= variables:
                return pid
        msg = f"task {task} of job {job} is not running\n{self.output(job)}"
        raise ProcessLookupError(msg)

    def batch_process(self, job: str) -> int:
        """Return the process of a job's script, which has become ``fedapm launch``."""
        for pid, variables in self._processes("python"):
            step = any(name.startswith("SLURM_STEP_ID=") for name in variables)
            if f"SLURM_JOB_ID={job}" in variables and not step:
                return pid
        msg = f"the script of job {job} is not running\n{self.output(job)}"
        raise ProcessLookupError(msg)

    def start_again(self, job: str) -> None:
        """Start a requeued job, which SLURM itself does after two minutes.

        The daemons of its last start linger for seconds, and would take files away from
        those of the next, which have the same names. Nodes refuse a job that starts in
        the second in which it was ended.
        """
        self.wait_until(job, lambda: not self._processes("slurmstepd"))
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now+2")

    def _processes(self, name: str) -> list[tuple[int, set[str]]]:
        """Return this cluster's processes of a name, with their environments."""
        mine = f"SLURM_CONF={self.conf['SLURM_CONF']}"
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if not (entry / "comm").read_text().startswith(name):
                    continue
                raw = (entry / "environ").read_bytes()
            except OSError:
                continue
            variables = set(raw.decode(errors="replace").split("\0"))
            if mine in variables:
                found.append((int(entry.name), variables))
        return found


def rounds_in(run: Path) -> int:
    """Return how many rounds a run has written down."""
    file = run / "rounds.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a user who submits jobs, free of an outer job's."""
    root = {  # Open MPI has to be allowed to
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    path = {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
    mine = {"FEDAPM_VENV": sys.prefix}
    return mpiexec.environment({**root, **path, **mine, **variables})


def call_script(
    name: str, box: Path, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run one of the two scripts of this folder; daemons must not hold its pipes."""
    with tempfile.TemporaryFile("w+") as printed:
        done = subprocess.run(
            ["bash", str(HERE / name), str(box)],
            env=mpiexec.environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            text=True,
            timeout=240,
            check=False,
        )
        printed.seek(0)
        done.stderr = printed.read()
    return done
