"""Configurations printed in the documentation are ones that the package takes."""

import re
from pathlib import Path

import yaml
from model_tasks import Input
from training import FEDAPM

from fedapm_mpi.comm import Serial
from fedapm_mpi.configfile import validate
from fedapm_mpi.models import models
from fedapm_mpi.scaling.platform import load
from fedapm_mpi.scaling.study import read
from fedapm_mpi.session import open_session

DOCS = Path(__file__).parents[1] / "docs"
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
    groups = open_session(validate(values, "docs"), Serial()).groups
    assert groups.of_client.tolist() == [0, 1, 0, 1, 2, 0]
    assert len(groups.space.sections) > 1


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
