"""``fedapm slurm submit --sweep`` on a real SLURM of three virtual nodes."""

import os
import signal

import pytest
import yaml

from tests.slurm.slurm_box import rounds_in
from tests.slurm.submitting import ended, jobs, slow, table


@pytest.mark.slow
def test_a_sweep_of_six_cells(cluster, site, local_digest):
    """One element gets a signal to stop and is requeued; its cell ends all the same."""
    sweep = {
        "config": "config.yaml",
        "grid": {"seed": [1, 2, 3]},
        "zip": {"rounds": [4, 20], "algorithm": [{}, slow(cluster)]},
    }
    text = yaml.safe_dump(sweep, sort_keys=False)
    (cluster.folder / "sweep.yaml").write_text(text)
    words = ("slurm", "submit", "--sweep", "sweep.yaml", "--ntasks-per-node", 2)
    words += ("--site", site, "--max-concurrent", 3)
    array, gathering = jobs(cluster.fedapm(*words))
    out = cluster.folder / "runs" / "sweep"
    (cell,) = (out / "cells").glob("seed=1,rounds=20*.yaml")
    victim = out / cell.stem
    cluster.wait_until(array, lambda: rounds_in(victim) > 2)
    element = cluster.element(array, 1)
    # Not by scancel, which tries for a minute more if the job takes the signal at once.
    os.kill(cluster.batch_process(element), signal.SIGUSR2)
    cluster.wait_until(element, lambda: cluster.state(element).name == "PENDING")
    assert 2 < rounds_in(victim) < 20
    cluster.start_again(element)
    ended(cluster, gathering)
    lines = table(out / "sweep.csv")
    assert [line["state"] for line in lines] == ["finished"] * 6
    assert [line["seed"] for line in lines] == ["1", "1", "2", "2", "3", "3"]
    assert lines[0]["digest"] == local_digest(4).strip()
    assert lines[1]["digest"] == local_digest(20).strip()
    assert len({line["digest"] for line in lines}) == 6
    assert "all 6 cells are finished" in cluster.fedapm(*words)
