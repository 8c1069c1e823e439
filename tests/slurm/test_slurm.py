"""``launch/train.sbatch`` on a real SLURM of three virtual nodes."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.slurm.slurm_box import PATIENCE, SCRIPT, environment
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import fedapm

LONG = 60
"""Rounds of a run that something is done to while it runs."""


def digest(cluster, job):
    return (cluster.run_directory(job) / "final" / "digest.txt").read_text()


def last_checkpoint(cluster, job):
    folder = cluster.run_directory(job) / "checkpoints"
    return max(int(path.name.partition("-")[2]) for path in folder.glob("round-*"))


@pytest.mark.slow
def test_same_bits_on_six_tasks_and_three_nodes(cluster, local_digest):
    """By the library's own launcher; srun is that of the tests in `test_submit`."""
    job = cluster.submit(3, 6, "config.yaml", FEDAPM_LAUNCHER="mpiexec")
    assert cluster.wait(job).name == "COMPLETED", cluster.output(job)
    assert digest(cluster, job) == local_digest(4)
    saved = json.loads((cluster.run_directory(job) / "provenance.json").read_text())
    hosts = [rank["host"] for rank in saved["ranks"]]
    assert len(hosts) == 6
    assert set(hosts) == {"n1", "n2", "n3"}


def test_ranks_that_cannot_see_each_other_are_named(cluster):
    job = cluster.submit(3, 6, "config.yaml", FEDAPM_MPI_TYPE="none")
    assert cluster.wait(job).name == "FAILED"
    output = cluster.output(job)
    assert "6 ranks were started, but this one is alone" in output
    assert "--mpi=pmi2" in output
    assert not cluster.run_directory(job).exists()


@pytest.mark.slow
def test_a_signaled_job_requeues_itself_and_continues(cluster, local_digest):
    """By the library's own launcher; srun is that of the tests in `test_submit`."""
    rounds = f"rounds={LONG}"
    job = cluster.submit(3, 3, "config.yaml", rounds, FEDAPM_LAUNCHER="mpiexec")
    cluster.wait_until(job, lambda: cluster.rounds(job) > 2)
    # As --signal=B:USR1@120 does when the time is nearly up.
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    cluster.wait_until(job, lambda: cluster.state(job).name == "PENDING")
    stopped_after = last_checkpoint(cluster, job)
    assert 2 <= stopped_after < LONG
    cluster.start_again(job)
    state = cluster.wait(job)
    output = cluster.output(job)
    assert (state.name, state.restarts) == ("COMPLETED", 1), output
    assert f"continuing after round {stopped_after}" in output
    assert digest(cluster, job) == local_digest(LONG)


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_loses_no_checkpoint(cluster, local_digest):
    job = cluster.submit(3, 3, "config.yaml", f"rounds={LONG}")
    cluster.wait_until(job, lambda: cluster.rounds(job) > 4)
    os.kill(cluster.process(job, 2), signal.SIGKILL)
    start = time.monotonic()
    state = cluster.wait(job)
    seconds = time.monotonic() - start
    assert (state.name, state.restarts) == ("FAILED", 0), cluster.output(job)
    assert seconds < 10
    assert 2 <= last_checkpoint(cluster, job) < LONG
    words = fedapm("train", "--resume", cluster.run_directory(job))
    done = mpiexec.run(None, words, timeout=PATIENCE, cwd=cluster.folder)
    assert done.returncode == 0, done
    assert digest(cluster, job) == local_digest(LONG)


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        (["config.yaml"], {}, "submit this: sbatch"),
        ([], {"SLURM_JOB_ID": "1"}, "name a configuration"),
        (
            ["config.yaml"],
            {"SLURM_JOB_ID": "1", "FEDAPM_VENV": "nowhere"},
            "there is no nowhere/bin/python",
        ),
        (
            ["config.yaml"],
            {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "FEDAPM_LAUNCHER": "ssh"},
            "unknown launcher 'ssh'",
        ),
    ],
)
def test_what_is_wrong_is_reported_before_any_rank_starts(words, variables, expected):
    done = subprocess.run(
        ["bash", str(SCRIPT), *words],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert expected in done.stderr
