"""Configurations printed in the documentation are ones that the package takes."""

import re
from pathlib import Path

import numpy as np
import yaml

from fedapm_mpi.cli import main as cli
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import EXIT_RESUMABLE, ConfigError, DataError, TrainingError
from fedapm_mpi.models import models
from fedapm_mpi.plugins import faults
from fedapm_mpi.studies.scaling.platform import load
from fedapm_mpi.studies.scaling.study import read
from fedapm_mpi.training.context import open_context
from tests.support import ROOT
from tests.support.data.model_tasks import Input
from tests.support.processes.cli_runs import FEDAPM

DOCS = ROOT / "docs"
ALGORITHMS = DOCS / "algorithms.md"
BASE = {
    "data": "x",
    "model": "cnn",
    "rounds": 1,
    "split": {"personal": ["fc2.*"]},
}


def test_groups_of_clients_that_lack_an_input(toy):
    text = (DOCS / "groups.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    small = {"model": {"name": "har", "filters": 2, "hidden": 4, "attention": 4}}
    values = {"rounds": 1, "algorithm": FEDAPM} | yaml.safe_load(block) | small
    values["data"] = str(toy["lacking"])
    groups = open_context(validate(values, "docs"), Serial()).groups
    assert groups.of_client.tolist() == [0, 1, 0, 1, 2, 0]
    assert len(groups.space.sections) > 1


def test_a_source_of_ones_own(tmp_path, monkeypatch, capsys):
    text = (DOCS / "own-parts.md").read_text("utf-8")
    source = text.split("## A source that runs")[1]
    (code,) = re.findall(r"```python\n(.*?)```", source.split("\n## ")[0], re.DOTALL)
    (words,) = re.findall(r"```\nfedapm (prepare .*?)\n```", source)
    monkeypatch.chdir(tmp_path)
    Path("sensors.py").write_text(code)
    Path("recordings").mkdir()
    for k, name in enumerate(("anna", "bert")):
        lines = [f"{k + i},{2 * i},{i % 2}" for i in range(10)]
        Path(f"recordings/{name}.csv").write_text("\n".join(lines))
    assert cli.main(words.split()) == 0, capsys.readouterr().err
    manifest = read_manifest("data/sensors")
    assert manifest.client_names == ("anna", "bert")
    assert manifest.classes == ("still", "moving")
    assert [(spec.name, spec.shape) for spec in manifest.inputs] == [("features", (2,))]
    parts = [ShardReader(manifest).read(1, split) for split in ("train", "test")]
    values = np.concatenate([part.inputs["features"] for part in parts])
    wanted = [[(1 + i) / 2, i] for i in range(10)]
    assert sorted(values.tolist()) == wanted
    assert manifest.preparation["source"]["name"] == "sensors.py:sensors"
    assert list(manifest.preparation["own_parts"]) == ["sensors.py"]
    Path("recordings/anna.csv").unlink()
    Path("recordings/bert.csv").unlink()
    assert cli.main(words.replace("data/sensors", "data/other").split()) == 3
    assert "recordings holds no .csv file" in capsys.readouterr().err


def test_the_exit_codes():
    """The table has all of them, and its links lead somewhere."""
    text = (DOCS / "exit-codes.md").read_text("utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    known = [faults.Interrupted, ConfigError, DataError, TrainingError]
    known += [faults.PluginError, faults.InternalError, faults.OutOfMemory]
    assert told == {0, EXIT_RESUMABLE, *(one.exit_code for one in known)}
    for name in ("exit-codes.md", "own-parts.md", "security.md"):
        links = re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / name).read_text("utf-8"))
        assert all((DOCS / link).exists() for link in links)
        assert f"docs/{name}" in (DOCS.parent / "README.md").read_text("utf-8")


def test_adapters():
    text = ALGORITHMS.read_text("utf-8").split("## What is personal")[1]
    block = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    config = validate(
        {"data": "x", "rounds": 1, "algorithm": FEDAPM} | yaml.safe_load(block), "docs"
    )
    assert config.model["base"]["name"] == "transformer"
    inputs = (Input("x", (6, 3)),)
    options = {k: v for k, v in config.model.items() if k != "name"}
    names = {n for n, p in models.get("lora")(inputs, 3, **options).named_parameters()}
    assert any("lora_a" in name for name in names)


def test_a_scaling_study_and_a_platform(tmp_path):
    text = (DOCS / "scaling.md").read_text("utf-8")
    study, platform = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "study.yaml").write_text(study)
    (tmp_path / "platform.yaml").write_text(platform)
    found = read(tmp_path / "study.yaml")
    assert None not in (found.strong, found.weak, found.size)
    assert load(tmp_path / "platform.yaml").ranks == 64 * 32


def test_the_preset_for_few_participants():
    text = ALGORITHMS.read_text("utf-8").split("### A preset for few participants")[1]
    (block,) = re.findall(r"```yaml\n(.*?)```", text.split("\n## ")[0], re.DOTALL)
    preset = yaml.safe_load(block)
    config = validate(BASE | preset, "docs")
    for name, value in preset["algorithm"].items():
        if not isinstance(value, dict):
            assert config.algorithm[name] == value
    steps = 9 * preset["algorithm"]["joint_work"]["epochs"]
    path = preset["algorithm"]["rho"] * preset["algorithm"]["lr_shared"] * steps
    assert 0.1 <= path <= 1, "not the rule that the text gives"
