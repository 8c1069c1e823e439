"""Job scripts for SLURM: what is in them, and what the shell makes of it."""

import re
import shutil
import subprocess
import sys

import pytest

from fedapm_mpi.cluster.site import Site
from fedapm_mpi.cluster.slurm.scripts import (
    JobResources,
    TrainJob,
    render_step,
    render_training,
)
from fedapm_mpi.errors import ConfigError

SHAPE = JobResources(nodes=3, tasks_per_node=2, time="1:00:00")
RUN = TrainJob(name="mine", config="mine.yaml", run_dir="runs/mine-$SLURM_JOB_ID")


def options(script):
    """Return the options that sbatch reads."""
    lines = re.findall(r"^#SBATCH (\S+)$", script, re.MULTILINE)
    return dict(line.partition("=")[::2] for line in lines)


def started(script, tmp_path, **variables):
    """Run a script with a python that only prints its arguments; return them."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "17", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_run_on_six_tasks(tmp_path):
    site = Site(venv=".", account="physics", mem="8G", options=["--exclusive"])
    script = render_training(site, SHAPE, RUN, "runs")
    assert options(script) == {
        "--job-name": "mine", "--nodes": "3", "--ntasks-per-node": "2",
        "--cpus-per-task": "1", "--time": "1:00:00", "--output": "runs/mine-%j.out",
        "--open-mode": "append", "--requeue": "", "--signal": "B:USR1@120",
        "--account": "physics", "--mem": "8G", "--exclusive": "",
    }  # fmt: skip
    assert started(script, tmp_path) == [
        "-m", "fedapm_mpi", "launch", "--ranks=6", "--ranks-per-node=2",
        "--cpus-per-rank=1", "--requeue", "train", "mine.yaml",
        "--run-dir", "runs/mine-17", "--resume",
    ]  # fmt: skip


def test_words_reach_the_program_as_they_were(tmp_path):
    run = TrainJob(
        name="x",
        config='my "own" runs/a.yaml',
        run_dir="runs/$SLURM_JOB_ID b",
        overrides=["split.personal=['a.*', \"b c\"]", "seed=$HOME"],
    )
    site = Site(venv=".", scratch="$FAST/a b")
    words = started(render_training(site, SHAPE, run, "runs"), tmp_path, FAST="/fast")
    assert words[words.index("train") + 1 :] == [
        'my "own" runs/a.yaml', "split.personal=['a.*', \"b c\"]", "seed=$HOME",
        "stage_dir=/fast/a b", "--run-dir", "runs/17 b", "--resume",
    ]  # fmt: skip


def test_a_cluster_with_gpus(tmp_path):
    site = Site(
        venv=".", gpus_per_node=4, cpus_per_task=8, launcher="srun", mpi_type="pmix"
    )
    script = render_training(
        site, JobResources(nodes=2, tasks=9, time="10"), RUN, "runs"
    )
    given = options(script)
    assert given["--gres"] == "gpu:4"
    assert given["--ntasks"] == "9"
    assert given["--signal"] == "B:USR1@120"
    words = started(script, tmp_path)
    assert words[3 : words.index("train")] == [
        "--ranks=9", "--cpus-per-rank=8", "--launcher=srun", "--mpi-type=pmix",
        "--gpu-bind=none", "--requeue",
    ]  # fmt: skip


def test_nodes_with_unequal_numbers(tmp_path):
    shape = JobResources(nodes=3, tasks=5, tasks_per_node=2, time="10")
    script = render_training(Site(venv="."), shape, RUN, "runs")
    given = options(script)
    assert (given["--ntasks"], given["--ntasks-per-node"]) == ("5", "2")
    words = started(script, tmp_path)
    assert words[3:5] == [
        "--ranks=5",
        "--cpus-per-rank=1",
    ]  # each node's number is SLURM's


def test_ranks_get_no_signal_before_they_have_started():
    script = render_training(Site(), JobResources(nodes=1, time="1"), RUN, "runs")
    assert options(script)["--signal"] == "B:USR1@15"


def test_an_element_trains_its_cell(tmp_path):
    (tmp_path / "runs" / "s").mkdir(parents=True)
    (tmp_path / "runs" / "s" / "cells.txt").write_text("seed=1,rho=2\nseed=2,rho=2\n")
    run = TrainJob(name="s", config="runs/s", run_dir="runs/s", array="0-1%1")
    script = render_training(Site(venv="."), SHAPE, run, "runs")
    assert options(script)["--array"] == "0-1%1"
    assert options(script)["--output"] == "runs/s-%A_%a.out"
    words = started(script, tmp_path, SLURM_ARRAY_TASK_ID="1")
    assert words[words.index("train") :] == [
        "train", "runs/s/cells/seed=2,rho=2.yaml", "--run-dir", "runs/s/seed=2,rho=2",
        "--resume",
    ]  # fmt: skip


def test_modules_and_setup_come_before_python(tmp_path):
    site = Site(venv="$VENV", modules=["a/1", "b"], setup=["echo ready", "VENV=."])
    script = render_step(site, "p", ["report", "runs/a b"], "5", "runs")
    loaded = f'module() {{ echo "module $*"; }}\n{script}'
    assert started(loaded, tmp_path) == [
        "module load a/1 b", "ready", "-m", "fedapm_mpi", "report", "runs/a b",
    ]  # fmt: skip


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck not installed")
def test_shellcheck_finds_nothing(tmp_path):
    path = tmp_path / "job.sbatch"
    path.write_text(render_training(Site(), SHAPE, RUN, "runs"))
    done = subprocess.run(["shellcheck", path], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


def test_jobs_run_on_the_python_that_submits_them():
    script = render_step(Site(), "p", ["report", "r"], "5", "runs")
    assert f"\npython={sys.executable}\n" in script


def test_a_template_of_ones_own(tmp_path):
    own = tmp_path / "own.j2"
    own.write_text(
        '#SBATCH --job-name={{ name }}\n{% include "head.sh.j2" %}{{ tasks_per_node }}'
    )
    script = render_training(Site(template=str(own), venv="x"), SHAPE, RUN, "runs")
    assert script == "#SBATCH --job-name=mine\npython=x/bin/python\n2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "there is no own.j2"),
        ("{{ nmae }}", "'nmae' is undefined"),
        ("{% if %}", "own.j2, line 1: "),
    ],
)
def test_a_template_that_is_wrong_is_reported(tmp_path, text, expected):
    own = tmp_path / "own.j2"
    if text is not None:
        own.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(expected)):
        render_training(Site(template=str(own)), SHAPE, RUN, "runs")


def test_a_template_with_an_old_key_of_the_site_gets_the_new_one_in_a_note(tmp_path):
    own = tmp_path / "own.j2"
    own.write_text("cores {{ site.cores }}")
    site = Site(venv=".", template=str(own))
    with pytest.raises(ConfigError, match=r"site\.cores is now site\.cpus_per_task"):
        render_training(site, SHAPE, RUN, "runs")
