"""Configurations printed in the documentation are ones that the package takes."""

import re
from pathlib import Path

import yaml

from fedapm_mpi.configfile import validate

ALGORITHMS = Path(__file__).parents[1] / "docs" / "algorithms.md"
BASE = {
    "data": "x",
    "model": "cnn",
    "rounds": 1,
    "split": {"personal": ["fc2.*"]},
}


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
