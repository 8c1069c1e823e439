"""``fedapm launch``: ranks by the launcher of this machine, in a container, watched."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import (
    TIMEOUT,
    experiment,
    fedapm,
    train,
    user_path,
    write_config,
)
from tests.support.processes.mpiexec import find_mpiexec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("launch")
    return write_config(folder / "c.yaml", experiment(toy["features"]))


@pytest.fixture(scope="module")
def digest(config, tmp_path_factory):
    run = tmp_path_factory.mktemp("serial") / "run"
    assert train(None, config, "--run-dir", run).returncode == 0
    return (run / "final" / "digest.txt").read_text()


def launch(*words, **env):
    return mpiexec.run(
        None, fedapm("launch", *words), timeout=TIMEOUT, env=user_path(**env)
    )


def test_ranks_are_started_and_the_command_is_printed(config, digest, tmp_path):
    ended = launch("-n", 3, "train", config, "--run-dir", tmp_path / "run")
    assert ended.returncode == 0, ended
    assert (tmp_path / "run" / "final" / "digest.txt").read_text() == digest
    (printed,) = (line for line in ended.stderr.splitlines() if line.startswith("+ "))
    assert " -n 3 " in printed
    assert printed.endswith(f"train {config} --run-dir {tmp_path / 'run'}")
    assert ended.left_behind == 0


def test_its_exit_code_is_that_of_the_ranks(config):
    ended = launch("-n", 2, "train", config, "rounds=-1")
    assert ended.returncode == 2, ended
    assert ended.stderr.count("fedapm: error:") == 1


def test_ranks_in_a_container(config, digest, tmp_path):
    """With a program that is called as Apptainer is, and runs what it is given."""
    program = tmp_path / "apptainer"
    program.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "exec {tmp_path}/f.sif" ] || exit 9\n'
        f'echo "$OMPI_COMM_WORLD_RANK$PMI_RANK" >>{tmp_path}/started\n'
        'shift 2\nexec "$@"\n'
    )
    program.chmod(0o755)
    (tmp_path / "f.sif").touch()
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ("-n", 2, "--container", tmp_path / "f.sif")
    words += ("train", config, "--run-dir", tmp_path / "run")
    ended = launch(*words, **path)
    assert ended.returncode == 0, ended
    assert (tmp_path / "run" / "final" / "digest.txt").read_text() == digest
    assert "container: MPICH Version: " in ended.stderr or find_mpiexec()[1] != "mpich"
    assert re.search(r"; launcher: \d+\.\d+", ended.stderr)
    started = (tmp_path / "started").read_text().split()
    assert sorted(started) == ["0", "1"]  # and once to ask for the library


@pytest.mark.parametrize(
    ("image", "path", "expected"),
    [
        ("none.sif", True, "there is no image none.sif"),
        ("none.sif", False, "neither apptainer nor singularity"),
    ],
)
def test_a_container_that_cannot_be(tmp_path, image, path, expected):
    program = tmp_path / "apptainer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    ended = launch(
        "-n", 2, "--container", image, "train", "x",
        PATH=str(tmp_path) if path else str(Path("nowhere")),
    )  # fmt: skip
    assert ended.returncode == 2
    assert expected in ended.stderr


def test_a_watched_launcher_passes_signals_on(toy, tmp_path):
    values = experiment(toy["features"], rounds=100_000, checkpoint={"every": 1000})
    config = write_config(tmp_path / "long.yaml", values)
    run = tmp_path / "run"
    words = ("launch", "-n", 3, "--requeue", "train", config, "--run-dir", run)
    with mpiexec.Job(None, fedapm(*words), env=user_path()) as job:
        end = time.monotonic() + TIMEOUT
        while not (run / "rounds.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.05)
        job.signal(signal.SIGUSR2)  # of which MPICH's launcher itself would die
        ended = job.wait(TIMEOUT)
    assert ended.returncode == 75, ended
    assert "no SLURM job to requeue; submit it again to continue" in ended.stderr
    assert any((run / "checkpoints").iterdir())
    assert ended.left_behind == 0
