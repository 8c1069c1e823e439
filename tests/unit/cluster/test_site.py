"""Site profiles: what is taken, and what is refused."""

import re
import subprocess

import pytest
import yaml

from fedapm_mpi.cluster.site import Site, read_site
from fedapm_mpi.cluster.slurm.scripts import (
    JobResources,
    TrainJob,
    render_training,
)
from fedapm_mpi.errors import ConfigError
from tests.support import ROOT

SHAPE = JobResources(nodes=3, tasks_per_node=2, time="1:00:00")
RUN = TrainJob(name="mine", config="mine.yaml", run_dir="runs/mine-$SLURM_JOB_ID")
SITES = sorted((ROOT / "launch" / "sites").glob("*.yaml"))


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_example_profiles_are_taken(path):
    script = render_training(read_site(path), SHAPE, RUN, "runs")
    assert subprocess.run(["bash", "-n", "-c", script], check=False).returncode == 0


def test_there_are_example_profiles():
    assert [path.stem for path in SITES] == ["box", "cpu", "gpu"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"acount": "x"}, "acount: unknown key; did you mean 'account'?"),
        ({"options": ["exclusive"]}, "'exclusive' is no option of sbatch"),
        (
            {"cpus_per_task": 0},
            "cpus_per_task: input should be greater than or equal to 1, got 0",
        ),
    ],
)
def test_a_profile_that_is_wrong_is_reported(tmp_path, values, expected):
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=re.escape(expected)):
        read_site(path)


def test_a_profile_named_by_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "site.yaml"
    path.write_text("partition: fast\n")
    monkeypatch.setenv("FEDAPM_SITE", str(path))
    assert read_site(None).partition == "fast"
    monkeypatch.delenv("FEDAPM_SITE")
    assert read_site(None) == Site()
