"""When a run stops: by signals, and before its time is up."""

import math
import os
import signal

import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training import preemption as stopping
from fedapm_mpi.training.preemption import (
    GRACE_SECONDS,
    PreemptionGuard,
    job_end_time,
    stop_signals,
)
from fedapm_mpi.utils.duration import parse_duration


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("90", 5400),
        ("0.5", 30),
        ("1:30", 90),
        ("02:00:00", 7200),
        ("1-0", 86400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("2-01:02:03", 176523),
    ],
)
def test_limits_are_read_as_sbatch_does(limit, seconds):
    assert parse_duration(limit) == seconds


@pytest.mark.parametrize("limit", ["", "soon", "1:2:3:4", "-5", "2h"])
def test_other_limits_are_refused(limit):
    with pytest.raises(ConfigError, match="is not a time limit; write MINUTES"):
        parse_duration(limit)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_ask(number):
    with stop_signals() as stop:
        assert stop.should_stop() == 0
        os.kill(os.getpid(), number)
        assert stop.should_stop() == 1


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose only item is the time."""
    now = [1000.0]
    monkeypatch.setattr(stopping.time, "time", lambda: now[0])
    return now


def test_a_run_stops_when_another_round_would_not_end_in_time(clock):
    """With rounds of 10 s, one that is asked 4 s after its start needs 20 more."""
    stop = PreemptionGuard(deadline=1000 + 100 + GRACE_SECONDS)
    done = 0
    while True:
        stop.begin_round()
        clock[0] += 4
        due = stop.should_stop()
        clock[0] += 6
        done += 1
        if due:
            break
    assert clock[0] <= 1100
    assert done == 9  # asked at 84, the rest of the ninth and a tenth might take 20


def test_the_first_round_counts_with_what_it_took_so_far(clock):
    stop = PreemptionGuard(deadline=1000 + 100 + GRACE_SECONDS)
    stop.begin_round()
    clock[0] += 32
    assert stop.should_stop() == 0
    clock[0] += 3
    assert stop.should_stop() == 1


def test_the_longest_round_counts(clock):
    stop = PreemptionGuard(deadline=1000 + 100 + GRACE_SECONDS)
    for seconds in (30, 1, 1):
        stop.begin_round()
        clock[0] += seconds
    assert stop.should_stop() == 0
    clock[0] += 9
    assert stop.should_stop() == 1


@pytest.mark.parametrize(
    ("given", "end"), [(None, math.inf), ("0", math.inf), ("x", math.inf), ("99", 99)]
)
def test_the_end_of_a_job(monkeypatch, given, end):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    if given is not None:
        monkeypatch.setenv("SLURM_JOB_END_TIME", given)
    assert job_end_time() == end


def test_signals_that_come_late_do_no_harm():
    with stop_signals():
        pass
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
