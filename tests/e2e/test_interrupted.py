"""A run that was killed or stopped, at any moment, ends as if it had not been."""

import contextlib
import json
import os
import random
import signal
import time

import pytest

from tests.support import PROCESSES
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import (
    FEDAPM,
    TIMEOUT,
    assert_same_run,
    experiment,
    fedapm,
    train,
    train_many,
    user_path,
    write_config,
)
from tests.support.processes.fault_injection import CRASH_AT, CRASH_IN
from tests.support.processes.mpiexec import Job, find_mpiexec

ROUNDS = 40
EXIT_RESUMABLE = 75

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def long(toy, tmp_path_factory):
    """Return the configuration of a run that is long enough to be interrupted."""
    steady = {"personal_work": {"steps": 12}, "shared_work": {"steps": 12}}
    config = experiment(
        toy["features"],
        model={"name": "user_parts:batch_norm"},
        split={"personal": ["3.*"]},
        algorithm=FEDAPM | steady,
        rounds=ROUNDS,
        evaluation={"every": 7},
        checkpoint={"every": 1, "keep": 2},
    )
    return write_config(tmp_path_factory.mktemp("long") / "long.yaml", config)


@pytest.fixture(scope="module")
def unbroken(long, tmp_path_factory):
    """Return the directory of the same run without an interruption."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    ended = train(None, long, "--run-dir", run)
    assert ended.returncode == 0, ended
    return run


def started(ranks, config, run, **env):
    """Start a run, or go on with it."""
    words = fedapm("train", config, "--run-dir", run, "--resume")
    return Job(ranks, words, env=user_path(**env))


def lines(run):
    """Return how many rounds a run has recorded."""
    path = run / "rounds.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(job, what):
    """Wait until something is the case; look often, for it may not last."""
    end = time.monotonic() + TIMEOUT
    while not what():
        if job.process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"the job ended, or {TIMEOUT} s passed: {job.wait(0)}")
        time.sleep(0.0005)


def entries(run, pattern):
    """Return what lies in a run's checkpoints, to distinguish it from a later one."""
    found = set()
    for path in (run / "checkpoints").glob(pattern):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.add((path.name, status.st_ino, status.st_mtime_ns))
    return found


def new_entry(run, pattern):
    """Return a function that tells whether something new has come up by that name."""
    before = entries(run, pattern)
    return lambda: bool(entries(run, pattern) - before)


def killed(ranks, config, run, dice):
    """Kill a rank: mostly at one of its file operations, else at any moment.

    A rank that hosts clients has about four operations a checkpoint, the server forty.
    """
    victim = dice.randrange(ranks)
    number = dice.randint(1, 6) if victim else dice.randint(10, 60)
    at_random = dice.random() < 0.4
    env = {CRASH_IN: str(run), CRASH_AT: f"{victim}:{number}"}
    seen = new_entry(run, "round-*")
    with started(ranks, config, run, **({} if at_random else env)) as job:
        if at_random:
            wait_for(job, seen)
            time.sleep(dice.uniform(0.0, 0.1))
            os.kill(job.rank(victim), signal.SIGKILL)
        return job.wait(TIMEOUT)


def test_killed_again_and_again(long, unbroken, tmp_path):
    """Kill a rank in the middle of writing, or at any moment; go on on other ranks."""
    dice = random.Random(7)
    run = tmp_path / "run"
    for ranks in (2, 3, 2, 3, 2):
        ended = killed(ranks, long, run, dice)
        assert ended.returncode not in (0, None), ended
        assert "Traceback" not in ended.stderr, ended
        assert ended.left_behind == 0, ended
        assert not (run / "final").exists(), "killed too late"
    assert 2 < lines(run) < ROUNDS

    with started(1, long, run) as job:
        ended = job.wait(TIMEOUT)
    assert ended.returncode == 0, ended
    assert "continuing after round" in ended.stdout
    assert_same_run(run, unbroken)
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == [f"round-{ROUNDS - 1:06}", f"round-{ROUNDS:06}"]


def test_killed_at_every_second_file_operation(toy, tmp_path):
    """One process, which has all the operations of the server and of a host."""
    config = write_config(
        tmp_path / "config.yaml",
        experiment(
            toy["features"],
            rounds=2,
            participation={"name": "random", "count": 2},
            evaluation={"every": 1, "pooled": False},
            checkpoint={"every": 1, "keep": 1},
        ),
    )
    ended = mpiexec.run(
        None,
        [str(PROCESSES / "crash_points.py"), str(config), str(tmp_path)],
        timeout=280,
        env=user_path(),
    )
    assert ended.returncode == 0, ended
    found = json.loads(ended.stdout)
    assert not found["faults"], "\n".join(
        f"operation {number}: {fault}" for number, fault in found["faults"].items()
    )
    assert found["operations"] > 50


@pytest.fixture(scope="module")
def stopped_by_signals(long, tmp_path_factory):
    """Return a run that has been stopped by signals on 2 and 3 ranks."""
    run = tmp_path_factory.mktemp("signals") / "run"
    by = [(None, signal.SIGINT), (2, signal.SIGUSR1), (3, signal.SIGTERM)]
    if find_mpiexec()[1] != "mpich":
        by.pop()  # Open MPI's launcher kills a quarter of a second after SIGTERM
    for ranks, number in by:
        before = lines(run)
        seen = new_entry(run, "round-*")
        with started(ranks, long, run) as job:
            wait_for(job, seen)
            job.signal(number)
            ended = job.wait(TIMEOUT)
        assert ended.returncode == EXIT_RESUMABLE, ended
        assert before < lines(run) < ROUNDS
        printed = ended.stdout.splitlines()[-1]
        after = lines(run) - 1  # the first line is of the evaluation before round 1
        stopped = f"stopped after round {after} of {ROUNDS}; continue with:"
        assert printed.startswith(stopped)
        assert printed.endswith(f"fedapm train --resume {run}")
        assert ended.left_behind == 0
        assert (run / "checkpoints" / f"round-{after:06}").is_dir()
    return run


@pytest.fixture(scope="module")
def stopped_by_its_clock(long, tmp_path_factory):
    """Return a run that stopped itself.

    In half a minute, twenty seconds of which are kept for the end, a bit is done.
    """
    run = tmp_path_factory.mktemp("clock") / "run"
    words = ("--run-dir", run, "--resume", "--walltime", "0:21")
    ended = train(2, long, *words)
    assert ended.returncode == EXIT_RESUMABLE, ended
    assert ended.seconds < 21
    assert 2 <= lines(run) < ROUNDS
    return run


@pytest.fixture(scope="module")
def ended(stopped_by_signals, stopped_by_its_clock, tmp_path_factory):
    """Continue both as they said, without a CONFIG, in one job on 3 ranks."""
    commands = {
        "signals": ["train", "--resume", stopped_by_signals],
        "clock": ["train", "--resume", stopped_by_its_clock, "--walltime", "10:00"],
    }
    return train_many(3, commands, tmp_path_factory.mktemp("ended") / "output")


def test_stopped_by_signals(stopped_by_signals, ended, unbroken):
    assert ended["signals"].codes == [0] * 3, ended["signals"]
    assert_same_run(stopped_by_signals, unbroken)


def test_stopped_by_its_own_clock(stopped_by_its_clock, ended, unbroken):
    assert ended["clock"].codes == [0] * 3, ended["clock"]
    assert_same_run(stopped_by_its_clock, unbroken)
