"""Several nodes, as MPICH can imitate them on one machine; and what is left."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import (
    assert_same_run,
    experiment,
    fedapm,
    train,
    user_path,
    write_config,
)

pytestmark = pytest.mark.slow

NODES = 2
MEMORY = Path("/dev/shm")


def shared_files():
    return {path.name for path in MEMORY.glob("fedapm-*")}


@pytest.fixture(scope="module")
def plain(toy, tmp_path_factory):
    """Return a configuration and its run in one process."""
    root = tmp_path_factory.mktemp("plain")
    config = write_config(root / "config.yaml", experiment(toy["odd"], rounds=4))
    ended = train(None, config, "--run-dir", root / "run")
    assert ended.returncode == 0, ended
    return config, root / "run"


@pytest.mark.skipif(
    mpiexec.find_mpiexec()[1] != "mpich", reason="only MPICH can imitate nodes"
)
@pytest.mark.parametrize("ranks", [4, 7])
def test_participants_are_assigned_within_their_node(toy, plain, tmp_path, ranks):
    """That ranks of one machine are on one node is tested in ``test_same_bits``."""
    config, alone = plain
    run = tmp_path / "run"
    cliques = {"MPIR_CVAR_NUM_CLIQUES": str(NODES)}
    staged = f"stage_dir={tmp_path / 'disk'}"  # one for both nodes
    ended = train(ranks, config, staged, "--run-dir", run, env=cliques)
    assert ended.returncode == 0, ended
    copied = {path.name for path in (tmp_path / "disk").glob("*/*")}
    assert copied == {path.name for path in toy["odd"].glob("*.h5")}
    assert_same_run(run, alone)
    nodes = json.loads((run / "provenance.json").read_text())["nodes_that_share"]
    assert nodes[0] == -1
    assert len(set(nodes[1:])) == NODES
    assert not shared_files()


def test_killed_ranks_leave_nothing_in_memory(toy, tmp_path):
    config = write_config(
        tmp_path / "config.yaml", experiment(toy["features"], rounds=100_000)
    )
    run = tmp_path / "run"
    words = fedapm("train", config, "--run-dir", run)
    with mpiexec.Job(3, words, env=user_path()) as job:
        record = run / "rounds.jsonl"
        patience = time.monotonic() + 60
        while not (record.exists() and record.read_text().count("\n") > 3):
            assert time.monotonic() < patience
            time.sleep(0.05)
        held = [
            link
            for link in Path(f"/proc/{job.rank(1)}/fd").iterdir()
            if "fedapm-" in str(link.readlink())
        ]
        assert held, "the control: its ranks do share a file"
        os.kill(job.rank(2), signal.SIGKILL)
        ended = job.wait(60)
    assert ended.returncode not in (0, None), ended
    assert ended.left_behind == 0
    assert not shared_files()
