"""A disk that fills up ends a run with a clear word, and the run can go on later."""

import os
import subprocess

import pytest

from tests.support.plugins import user_parts
from tests.support.processes.cli_runs import (
    ABORTED,
    assert_same_run,
    experiment,
    train,
    train_many,
    write_config,
)

RANKS = 2

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder with room for little, and a function that makes more."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small disk")

    def enlarge():
        more = ["mount", "-o", "remount,size=40m", str(folder)]
        subprocess.run(more, check=True)

    try:
        yield folder, enlarge
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def wide(toy, tmp_path):
    """Return the configuration of a run whose states take 27 kB a client."""
    return write_config(
        tmp_path / "config.yaml",
        experiment(
            toy["features"],
            model={"name": "user_parts:confined", "hidden": 400},
            participation={"name": "random", "count": 2},
            rounds=8,
            evaluation={"every": 1},
            checkpoint={"every": 1, "keep": 2},
        ),
    )


def goes_on(config, run, tmp_path):
    """Check that a run goes on, and ends as one that met no trouble."""
    done = train_many(
        RANKS,
        {
            "on": ["train", config, "--resume", run],
            "untroubled": ["train", config, "--run-dir", tmp_path / "untroubled"],
        },
        tmp_path / "output",
    )
    assert done["on"].codes == [0] * RANKS, done["on"]
    assert "continuing after round" in done["on"].stdout[0]
    assert_same_run(run, tmp_path / "untroubled")


def test_a_full_disk(toy, tmp_path, small_disk):
    folder, enlarge = small_disk
    config = wide(toy, tmp_path)
    ended = train(3, config, "--run-dir", folder / "run")
    assert ended.returncode in ABORTED, ended
    assert "fedapm: error: " in ended.stderr
    assert "cannot write" in ended.stderr
    assert "No space left on device" in ended.stderr
    assert "free some space or choose another folder" in ended.stderr
    assert "Traceback" not in ended.stderr, ended
    assert ended.left_behind == 0
    enlarge()
    goes_on(config, folder / "run", tmp_path)


def test_files_that_may_not_grow(toy, tmp_path):
    """What a used-up quota looks like: no file may have more than 64 kB."""
    config, run = wide(toy, tmp_path), tmp_path / "run"
    env = {user_parts.FILE_LIMIT: "64000"}
    ended = train(3, config, "--run-dir", run, env=env)
    assert ended.returncode in ABORTED, ended
    assert "cannot write" in ended.stderr
    assert "File too large" in ended.stderr
    assert "Traceback" not in ended.stderr, ended
    assert ended.left_behind == 0
    assert list((run / "checkpoints").glob("round-*"))
    goes_on(config, run, tmp_path)
