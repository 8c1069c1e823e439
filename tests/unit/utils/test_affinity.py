"""Threads and the cores they have: as many as fit, and words where they do not."""

import os
import subprocess
import sys

import pytest

from fedapm_mpi.config.loader import load
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.affinity import available_cores, max_threads_per_rank, notes
from tests.support.processes.cli_runs import experiment, fedapm, user_path, write_config


@pytest.mark.parametrize(
    ("cores", "nodes", "threads"),
    [
        ([range(8)], [0], 8),  # one process
        ([range(8)] * 5, [-1, 1, 1, 1, 1], 2),  # the server has none
        ([range(8)] * 4, [-1, 1, 1, 1], 2),  # 8 by 3
        ([range(2)] * 5, [-1, 1, 1, 1, 1], 1),  # too few
        ([[0], [0, 1], [2, 3]], [-1, 1, 1], 2),  # each has cores of its own
        ([[0]] * 3, [-1, 1, 1], 1),  # bound to the same
        ([range(8)] * 4, [-1, 1, 2, 2], 4),  # the node that has fewest counts
        ([[], []], [-1, 1], 1),  # a system that does not tell
    ],
)
def test_as_many_threads_as_fit(cores, nodes, threads):
    assert max_threads_per_rank(cores, nodes) == threads


def rank(number, cores, threads=1, host="a"):
    return {"rank": number, "host": host, "cores": list(cores), "threads": threads}


def test_ranks_that_fit_are_not_spoken_of():
    ranks = [
        rank(0, [0]),
        rank(1, [0, 1], 2),
        rank(2, [2, 3], 2),
        rank(3, [0], host="b"),
    ]
    assert notes(ranks, {0}) == []


def test_too_many_threads_on_a_host_are_reported():
    ranks = [rank(0, range(4)), *(rank(k, range(4), 2) for k in (1, 2, 3))]
    (note,) = notes(ranks, {0})
    assert note.startswith("3 training ranks on a have 6 threads but only 4 core(s)")


def test_ranks_bound_to_the_same_core_are_reported():
    ranks = [rank(0, [0]), rank(1, [0]), rank(2, [0]), rank(3, [1])]
    (note,) = notes(ranks, {0})
    assert note.startswith("2 training ranks on a have 2 threads but only 1 core(s)")


def test_ranks_bound_to_a_core_are_reported():
    ranks = [rank(0, [0]), rank(1, [1], 4), rank(2, [2], 4, "b")]
    (note,) = notes(ranks, {0})
    assert note.startswith("rank 1 and 1 more has 4 threads on 1 core(s) of a: bind no")


def test_one_process_uses_the_cores_it_was_given(toy, tmp_path):
    config = write_config(
        tmp_path / "c.yaml", experiment(toy["features"], threads="auto", rounds=1)
    )
    core = available_cores()[0]
    words = fedapm("train", config, "--run-dir", tmp_path / "run")
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **user_path()},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, [core]),
    )
    assert done.returncode == 0, done.stderr
    assert "threads: 1\n" in (tmp_path / "run" / "config.yaml").read_text()
    assert "core(s)" not in done.stdout


@pytest.mark.parametrize("value", ["0", "atuo"])
def test_other_threads_are_refused(toy, tmp_path, value):
    config = write_config(tmp_path / "c.yaml", experiment(toy["features"]))
    with pytest.raises(ConfigError, match="threads: input should be 'auto'"):
        load(config, [f"threads={value}"])
