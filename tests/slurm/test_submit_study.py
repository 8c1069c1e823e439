"""``fedapm slurm submit --study`` on a real SLURM of three virtual nodes."""

import json

import pytest
import yaml

from tests.slurm.submitting import digest, ended, jobs, table


@pytest.mark.slow
def test_a_scaling_study(cluster, site, local_digest):
    """Its points one after the other, each on the nodes it needs, then its figures."""
    study = {
        "config": "config.yaml",
        "strong": {"client_ranks": [1, 2, 4]},
        "weak": {"client_ranks": [1, 2], "clients_per_rank": 2},
        "repetitions": 1,
        "warmup_rounds": 1,
        # srun's pmi2 now and then fails nodes of unequal numbers: see docs/cluster.md.
        "launcher": "mpiexec",
    }
    (cluster.folder / "study.yaml").write_text(yaml.safe_dump(study))
    words = ("slurm", "submit", "--study", "study.yaml", "--ntasks-per-node", 2)
    words += ("--site", site, "--time", 5)
    *points, report = jobs(cluster.fedapm(*words))
    assert len(points) == 5
    ended(cluster, report)
    assert "digests agree over all rank counts" in cluster.output(report)
    folder = cluster.folder / "runs" / "study"
    for ranks, hosts in ((1, 1), (2, 2), (4, 3)):
        run = folder / "points" / f"strong-{ranks}-0"
        assert digest(run) == local_digest(4)
        saved = json.loads((run / "provenance.json").read_text())
        assert len({rank["host"] for rank in saved["ranks"]}) == hosts
    found = table(folder / "report" / "scaling.csv")
    names = [f"{line['kind']}-{line['client_ranks']}" for line in found]
    assert names == ["strong-1", "strong-2", "strong-4", "weak-1", "weak-2"]
    assert "all points are finished" in cluster.fedapm(*words)
    cluster.fedapm("scale", "model", "runs/study", "--predict", "100,10000")
    predicted = table(folder / "model" / "predictions.csv")
    assert {line["client_ranks"] for line in predicted} == {"100", "10000"}
    assert all(0 < float(line["low"]) <= float(line["high"]) for line in predicted)
