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


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """Return a folder with room for little, and a function that makes more, or None."""
    folder = tmp_path_factory.mktemp("disk") / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return

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


@pytest.fixture(scope="module")
def stopped(toy, tmp_path_factory, small_disk):
    """Return two runs that could not write, how they ended, and one without trouble.

    The first lies on a disk that was full, which is larger by then.
    """
    root = tmp_path_factory.mktemp("stopped")
    config = wide(toy, root)
    ended, runs = {}, {"quota": root / "run", "untroubled": root / "untroubled"}
    limit = {user_parts.FILE_LIMIT: "64000"}
    ended["quota"] = train(3, config, "--run-dir", runs["quota"], env=limit)
    if small_disk is not None:
        folder, enlarge = small_disk
        runs["disk"] = folder / "run"
        ended["disk"] = train(3, config, "--run-dir", runs["disk"])
        enlarge()
    saved = {name: list((runs[name] / "checkpoints").glob("round-*")) for name in ended}
    commands = {
        name: ["train", config, "--resume" if name in ended else "--run-dir", run]
        for name, run in runs.items()
    }
    done = train_many(RANKS, commands, root / "output")
    return runs, ended, saved, done


def check(stopped, name, reason):
    """Check how a run ended, and that it continues as one that met no trouble."""
    runs, ended, _, done = stopped
    one = ended[name]
    assert one.returncode in ABORTED, one
    assert "fedapm: error: " in one.stderr
    assert "cannot write" in one.stderr
    assert reason in one.stderr
    assert "Traceback" not in one.stderr, one
    assert one.left_behind == 0
    assert done[name].codes == [0] * RANKS, done[name]
    assert "continuing after round" in done[name].stdout[0]
    assert_same_run(runs[name], runs["untroubled"])


def test_a_full_disk(stopped):
    if "disk" not in stopped[0]:
        pytest.skip("may not mount a small disk")
    check(stopped, "disk", "No space left on device")
    assert "free some space or choose another folder" in stopped[1]["disk"].stderr


def test_files_that_may_not_grow(stopped):
    """What a used-up quota looks like: no file may have more than 64 kB."""
    check(stopped, "quota", "File too large")
    assert stopped[2]["quota"]
