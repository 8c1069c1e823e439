"""A study as job arrays, with a function in place of SLURM."""

import json
import re
from pathlib import Path

import pytest

from fedapm_mpi.cluster.site import Site
from fedapm_mpi.cluster.slurm.scripts import JobResources
from fedapm_mpi.config.yaml_io import read
from fedapm_mpi.studies.tune import array_jobs
from fedapm_mpi.studies.tune.array_jobs import (
    ArrayOptions,
    UnfinishedError,
    submit_next,
)
from fedapm_mpi.studies.tune.report import write_report
from fedapm_mpi.studies.tune.study import Study
from fedapm_mpi.studies.tune.trials import train_here
from fedapm_mpi.training.preemption import PreemptionGuard
from tests.support.tuning import request

OPTIONS = ArrayOptions(
    site=Site(),
    shape=JobResources(nodes=1, time="10"),
    name="tuned",
    limit=2,
    words=["tune", "c.yaml", "--after-array"],
)


@pytest.fixture
def submitted(monkeypatch):
    """Return the list of what is submitted: script, path and dependencies."""
    found = []

    def submit(script, path, logs, after=()):
        found.append((script, path, list(after)))
        return str(100 + len(found))

    monkeypatch.setattr(array_jobs, "submit_script", submit)
    return found


def elements(script):
    """Return the numbers of an array, and how many may run at once."""
    text = re.search(r"^#SBATCH --array=(\S+)$", script, re.MULTILINE)[1]
    ids, _, limit = text.partition("%")
    numbers = []
    for part in ids.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers, limit


def train_element(folder, number):
    """Do what the script of an array does: find the cell by its number, and train."""
    name = (folder / "cells.txt").read_text().splitlines()[number]
    values = read(folder / "cells" / f"{name}.yaml")
    return train_here(values, folder / name, PreemptionGuard())


def test_arrays_end_with_the_same_trials_as_one_process(
    whole, data, tmp_path, submitted
):
    out, steps = tmp_path / "out", 0
    while True:
        # Each step is a process of its own.
        study = Study(request(data, out))
        found = submit_next(study, OPTIONS, after_array=steps > 0)
        if found is None:
            break
        array, step, count = found
        (script, path, after), (continuing, _, behind) = submitted[-2:]
        numbers, limit = elements(script)
        assert (len(numbers), limit, after) == (count, "2", [])
        assert behind == [f"afterany:{array}"]
        assert (path.name, int(step)) == ("tuned.sbatch", int(array) + 1)
        assert "fedapm_mpi tune c.yaml --after-array" in continuing
        for number in reversed(numbers):
            assert train_element(out / "trials", number).code == 0
        steps += 1
    assert steps == 4  # two rungs of two generations
    write_report(study)
    for name in ("trials.csv", "best.yaml"):
        assert (out / name).read_bytes() == (whole[0].out / name).read_bytes()


def test_an_element_that_diverged_is_settled_by_its_directory(
    data, tmp_path, submitted
):
    space = {
        "optimizer": None, "algorithm.lr_shared": [0.1, 1e30], "split": "biases",
        "evaluation.fine_tune": None,
    }  # fmt: skip
    wanted = request(data, tmp_path / "out", space=space, trials=5, width=5)
    assert submit_next(Study(wanted), OPTIONS, after_array=False) is not None
    numbers, _ = elements(submitted[0][0])
    codes = [train_element(tmp_path / "out" / "trials", k).code for k in numbers]
    # The configured 0.1, and two of each value in the Latin hypercube.
    assert sorted(codes) == [0, 0, 0, 70, 70]
    study = Study(wanted)
    assert submit_next(study, OPTIONS, after_array=True) is not None
    assert [one.failure is not None for one in study.trials] == [c == 70 for c in codes]


def test_an_element_without_result_or_reason_ends_the_chain(data, tmp_path, submitted):
    wanted = request(data, tmp_path / "out")
    submit_next(Study(wanted), OPTIONS, after_array=False)
    numbers, _ = elements(submitted[0][0])
    for k in numbers[1:]:
        train_element(tmp_path / "out" / "trials", k)
    with pytest.raises(UnfinishedError, match=f"trials {numbers[0]:04d} have neither"):
        submit_next(Study(wanted), OPTIONS, after_array=True)
    # By hand the same command submits what is left.
    before = len(submitted)
    found = submit_next(Study(wanted), OPTIONS, after_array=False)
    assert found[2] == 1
    assert elements(submitted[before][0])[0] == numbers[:1]


def test_nothing_is_written_twice_for_a_failure(data, tmp_path):
    study = Study(request(data, tmp_path / "out"))
    (one, rounds), *_ = study.advance()
    run = study.run_of(one)
    run.mkdir(parents=True)
    failure = {"error": "WriteError", "message": "disk full", "exit_code": 70}
    Path(run, "failure.json").write_text(json.dumps(failure))
    left = array_jobs.settle_from_directories(study, [(one, rounds)])
    assert left == [(one, rounds)]
