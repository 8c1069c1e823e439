"""A real SLURM of three virtual nodes on this machine, for the tests in this folder.

Each process of pytest has a cluster of its own, because tests mostly wait for SLURM.
What takes computing time, the data and the runs without MPI, is made by the first
process that needs it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.slurm.slurm_box import HERE, NOT_TO_BE_HAD, PATIENCE, Cluster, call_script
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import FEDAPM, experiment, fedapm, write_config

PMI2 = "mpi/pmi2: value not properly terminated in client request"
"""What slurmstepd says when it has broken the start of MPICH: see docs/cluster.md."""


def pytest_collection_modifyitems(items):
    """Let a test end by what it waits for, and say so, not by pytest's limit."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(3 * PATIENCE))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Skip a test of which SLURM itself broke a job before any of our code began."""
    report = yield
    if report.failed and PMI2 in str(report.longrepr):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {PMI2}")
    return report


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return a function: a folder of a name, made by one of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        made = base / name
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                unfinished = Path(tempfile.mkdtemp(dir=base))
                make(unfinished)
                unfinished.rename(made)
        return made

    return folder


def prepare(folder: Path) -> None:
    """Write a data set, a configuration, and the shards prepared from it."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=400)
    x = rng.normal(size=(400, 12)).astype(np.float32)
    x[np.arange(400), labels] += 2
    np.savez(folder / "toy.npz", x_a=x, y=labels, client=np.arange(400) % 10)
    words = ("prepare", "arrays", "--from", "toy.npz", "--to", "data", "test=0.25")
    done = mpiexec.run(None, fedapm(*words), timeout=PATIENCE, cwd=folder)
    assert done.returncode == 0, done
    # Small batches, so that there is time to do something to a job.
    algorithm = {**FEDAPM, "batch_size": 2}
    config = experiment(Path("data"), algorithm=algorithm, rounds=4)
    write_config(folder / "config.yaml", config)


@pytest.fixture(scope="session")
def folder(tmp_path_factory, made_once) -> Path:
    """A folder of this process with a prepared data set and a configuration."""
    folder = tmp_path_factory.mktemp("slurm")
    shutil.copytree(made_once("slurm-prepared", prepare), folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def local_digest(folder, made_once) -> Callable[[int], str]:
    """Return a function: the digest of some rounds on one process, without MPI."""

    def digest(rounds: int) -> str:
        def train(local: Path) -> None:
            run = ("--run-dir", local / "run")
            words = ("train", "config.yaml", f"rounds={rounds}", *run)
            done = mpiexec.run(None, fedapm(*words), timeout=PATIENCE, cwd=folder)
            assert done.returncode == 0, done

        local = made_once(f"slurm-local-{rounds}", train)
        return (local / "run" / "final" / "digest.txt").read_text()

    return digest


@pytest.fixture(scope="session")
def cluster(folder):
    """Start the cluster for the session; skip where there can be none."""
    if os.environ.get("FEDAPM_SLURM") == "0":
        pytest.skip("FEDAPM_SLURM=0")
    if os.geteuid() != 0:
        pytest.skip("starting a SLURM cluster needs root")
    # Not below pytest's folder: the path of a socket must be short.
    box = Path(tempfile.mkdtemp(prefix="fedapm-slurm-"))
    # A cluster takes four ports, and processes started together have close numbers.
    port = {"PORT": str(20000 + 4 * (os.getpid() % 2500))}
    try:
        up = call_script("cluster-up.sh", box, **port)
        if up.returncode == NOT_TO_BE_HAD:
            pytest.skip(up.stderr.strip())
        assert up.returncode == 0, up.stderr
        yield Cluster(box, folder)
    finally:
        down = call_script("cluster-down.sh", box)
        shutil.rmtree(box, ignore_errors=True)
    assert down.returncode == 0, down.stderr


@pytest.fixture(scope="session")
def site(folder):
    """Return a site profile of the box."""
    path = folder / "box.yaml"
    path.write_text(yaml.safe_dump({"options": ["--exclusive=user"]}))
    return path
