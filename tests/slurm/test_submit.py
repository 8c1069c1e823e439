"""``fedapm slurm submit`` on a real SLURM of three virtual nodes: runs."""

import json

import pytest
import yaml

from tests.slurm.slurm_box import rounds_in
from tests.slurm.submitting import digest, ended, jobs, slow

END = "[ ${SLURM_RESTART_COUNT:-} ] || export SLURM_JOB_END_TIME=$(($(date +%s) + 27))"
"""Shell that has the first start of a job end soon; SLURM knows no time below a minute,
and that before 23.02 does not tell jobs when they end."""


@pytest.mark.slow
def test_prepare_train_and_report_on_three_nodes(cluster, site, local_digest):
    """One after the other; 1 + 5 ranks give the digest of a run without MPI."""
    printed = cluster.fedapm(
        "slurm", "submit", "config.yaml", "data=again", "--nodes", 3,
        "--ntasks-per-node", 2, "--time", 5, "--site", site, "--report",
        "--prepare", "arrays --from toy.npz --to again test=0.25",
    )  # fmt: skip
    prepare, train, report = jobs(printed)
    assert f"run runs/config-{train}" in printed
    ended(cluster, report)
    ended(cluster, prepare)
    ended(cluster, train)
    run = cluster.folder / "runs" / f"config-{train}"
    assert digest(run) == local_digest(4)
    ranks = json.loads((run / "provenance.json").read_text())["ranks"]
    hosts = [rank["host"] for rank in ranks]
    assert sorted(hosts) == ["n1", "n1", "n2", "n2", "n3", "n3"]
    assert (run / "report" / "comparison.csv").exists()
    assert "mpi=pmi2 --kill-on-bad-exit=1 --ntasks=6" in cluster.output(train)


@pytest.mark.slow
def test_a_time_limit_that_is_too_short(cluster, site, local_digest, tmp_path):
    """The ranks know when the job ends, stop in time, and go on in a second start."""
    short = tmp_path / "short.yaml"
    profile = {**yaml.safe_load(site.read_text()), "setup": [END]}
    short.write_text(yaml.safe_dump(profile))
    printed = cluster.fedapm(
        "slurm", "submit", "config.yaml", "rounds=80",
        f"algorithm={json.dumps(slow(cluster))}",
        "--nodes", 2, "--ntasks-per-node", 2, "--time", 5, "--site", short,
    )  # fmt: skip
    (job,) = jobs(printed)
    run = cluster.folder / "runs" / f"config-{job}"
    cluster.wait_for(job, "RUNNING")
    assert cluster.wait_for(job, "PENDING") == "PENDING", cluster.output(job)
    assert 0 < rounds_in(run) < 80
    cluster.start_again(job)
    ended(cluster, job)
    assert cluster.state(job).restarts == 1
    assert "continuing after round" in cluster.output(job)
    assert digest(run) == local_digest(80)


def test_what_slurm_refuses_is_reported(cluster):
    (cluster.folder / "nowhere.yaml").write_text("partition: nowhere\n")
    words = ("slurm", "submit", "config.yaml", "--site", "nowhere.yaml")
    with pytest.raises(AssertionError, match=r"SLURM refuses runs/config\.sbatch:"):
        cluster.fedapm(*words)
