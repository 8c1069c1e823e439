"""``fedapm slurm``: what is printed, and what is refused."""

import re
from pathlib import Path

import pytest

from fedapm_mpi.cli.main import main
from fedapm_mpi.cluster.site import Site, read_site
from fedapm_mpi.cluster.slurm.scripts import (
    JobResources,
    TrainJob,
    render_training,
)
from tests.support.processes.cli_runs import experiment, write_config

SHAPE = JobResources(nodes=3, tasks_per_node=2, time="1:00:00")
RUN = TrainJob(name="mine", config="mine.yaml", run_dir="runs/mine-$SLURM_JOB_ID")


def options(script):
    """Return the options that sbatch reads."""
    lines = re.findall(r"^#SBATCH (\S+)$", script, re.MULTILINE)
    return dict(line.partition("=")[::2] for line in lines)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDAPM_SITE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "s.yaml").write_text("venv: nowhere\n")
    return write_config(tmp_path / "c.yaml", experiment(tmp_path / "data"))


def test_render_prints_the_script(config, capsys):
    words = ["slurm", "render", "c.yaml", "rounds=5", "--nodes", "2", "--time", "2-0"]
    assert main(words) == 0
    script = capsys.readouterr().out
    assert options(script)["--time"] == "2-0"
    assert script.endswith('train "$config" rounds=5 --run-dir "$run_dir" --resume\n')
    assert not Path("runs").exists()


def test_the_template_can_be_copied(config, capsys):
    assert main(["slurm", "template"]) == 0
    Path("own.j2").write_text(capsys.readouterr().out)
    Path("site.yaml").write_text("template: own.j2\n")
    own, come = (
        render_training(site, SHAPE, RUN, "runs")
        for site in (read_site(Path("site.yaml")), Site())
    )
    assert own == come


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "name a configuration, or a sweep by --sweep"),
        (["c.yaml", "rounds=x"], "rounds"),
        (["c.yaml", "--time", "soon"], "'soon' is not a time limit"),
        (["c.yaml", "--nodes", "0"], "--nodes must be at least 1, not 0"),
        (["c.yaml", "--max-concurrent", "2"], "--max-concurrent is for"),
        (["c.yaml", "--sweep", "s.yaml"], "--sweep and CONFIG do not go together"),
        (["--study", "s.yaml", "--nodes", "2"], "--study and --nodes do not go"),
        (["--study", "s.yaml", "--max-concurrent", "2"], "--max-concurrent is for"),
        (["c.yaml", "--site", "s.yaml"], "venv: there is no nowhere/bin/python"),
        (["c.yaml"], "there is no sbatch on the PATH"),
    ],
)
def test_what_cannot_be_submitted_is_reported(config, capsys, words, expected):
    assert main(["slurm", "submit", *words]) == 2
    assert expected in capsys.readouterr().err
