"""Two jobs on one run directory at once: one trains, the other is refused."""

import os
import shutil
import signal
import time

import pytest
from launching import Job
from training import (
    TIMEOUT,
    assert_same_run,
    experiment,
    fedapm,
    rounds_of,
    train,
    user_path,
    write_config,
)

pytestmark = pytest.mark.slow

REPETITIONS = int(os.environ.get("FEDAPM_TWO_JOBS", "2"))
ROUNDS = 150


@pytest.fixture(scope="module")
def prepared(toy, tmp_path_factory):
    root = tmp_path_factory.mktemp("two")
    config = experiment(toy["features"], rounds=ROUNDS, checkpoint={"every": 10})
    path = write_config(root / "config.yaml", config)
    for name, words in (("whole", []), ("begun", ["rounds=10"])):
        assert train(None, path, *words, "--run-dir", root / name).returncode == 0
    return path, root


def both(config, run, *words):
    """Start two jobs at once; return how they ended, the one that trained first."""
    words = fedapm("train", config, "--run-dir", run, *words)
    with Job(None, words, env=user_path()) as a, Job(None, words, env=user_path()) as b:
        return sorted((a.wait(TIMEOUT), b.wait(TIMEOUT)), key=lambda e: e.returncode)


@pytest.mark.parametrize("words", [(), ("--resume",)], ids=["new", "resume"])
def test_exactly_one_trains(prepared, tmp_path, words):
    config, root = prepared
    for number in range(REPETITIONS):
        run = tmp_path / f"run{number}"
        if words:
            shutil.copytree(root / "begun", run)
        done, refused = both(config, run, *words)
        assert (done.returncode, refused.returncode) == (0, 2), (done, refused)
        (line,) = refused.stderr.splitlines()
        assert f"{run} is being trained by process " in line
        assert " since " in line
        assert [r["round"] for r in rounds_of(run)] == list(range(ROUNDS + 1))
        assert_same_run(run, root / "whole")
        assert not (run / "fedapm.lock").exists()


def test_a_killed_job_gives_way_at_once(prepared, tmp_path):
    """On ranks; the second job is refused on all of them, and starts when it may."""
    config, root = prepared
    run = tmp_path / "run"
    words = fedapm("train", config, "--run-dir", run, "--resume")
    with Job(2, words, env=user_path()) as job:
        end = time.monotonic() + TIMEOUT
        while not list(run.glob("checkpoints/round-*")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(job.rank(0), signal.SIGSTOP)
        refused = train(2, config, "--run-dir", run, "--resume")
        assert refused.returncode == 2, refused
        assert refused.stderr.count("is being trained by process") == 1
        os.kill(job.rank(0), signal.SIGKILL)
        job.wait(TIMEOUT)
    assert (run / "fedapm.lock").exists()
    ended = train(2, config, "--run-dir", run, "--resume")
    assert ended.returncode == 0, ended
    assert "going on after round" in ended.stdout
    assert_same_run(run, root / "whole")
