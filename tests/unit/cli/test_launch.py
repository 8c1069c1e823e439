"""``fedapm launch``: how many ranks, and what the script would run."""

import os
import subprocess
import sys

import pytest

from fedapm_mpi.cli.launch import tasks
from tests.support import ROOT

RUN = ROOT / "launch" / "run"
ALONE = ("SLURM_JOB_ID", "SLURM_NTASKS", "PBS_NODEFILE", "LSB_JOBID", "COBALT_JOBID")


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({}, 1),
        ({"SLURM_NTASKS": "6"}, 6),
        ({"SLURM_JOB_NUM_NODES": "3", "SLURM_NTASKS_PER_NODE": "2"}, 6),
        ({"LSB_DJOB_NUMPROC": "8"}, 8),
    ],
)
def test_tasks_of_a_job(monkeypatch, variables, count):
    for name in (*ALONE, "SLURM_JOB_NUM_NODES", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tasks() == count


def test_tasks_of_a_pbs_job(monkeypatch, tmp_path):
    for name in ALONE:
        monkeypatch.delenv(name, raising=False)
    nodes = tmp_path / "nodes"
    nodes.write_text("a\na\nb\nb\n")
    monkeypatch.setenv("PBS_NODEFILE", str(nodes))
    assert tasks() == 4


def run(*words, **variables):
    return subprocess.run(
        [RUN, *map(str, words)],
        env={**os.environ, "FEDAPM_VENV": sys.prefix, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_script_says_what_it_would_run():
    done = run("-n", 1, "--print", "train", "my runs.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("-m fedapm_mpi train 'my runs.yaml'")


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        ([], {}, "name the command of the ranks"),
        (["-n", 0, "train", "x"], {}, "-n must be at least 1, not 0"),
        (["-n", 2, "trian", "x"], {}, "does not run on ranks; did you mean 'train'?"),
        (["train", "x"], {"FEDAPM_VENV": "nowhere"}, "there is no nowhere/bin/python"),
    ],
)
def test_the_script_says_what_is_wrong(words, variables, expected):
    done = run(*words, **variables)
    assert done.returncode == 2
    assert expected in done.stderr
