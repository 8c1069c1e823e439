"""A run continues after an upgrade that brought options, unless they are used."""

import json

import pytest
import yaml

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.runner import train
from tests.support.data.upgraded_runs import aged, of_old
from tests.support.processes.cli_runs import digest_of, experiment


@pytest.fixture
def config(toy):
    return experiment(toy["features"], rounds=2)


def run(config, directory, **more):
    return train(
        Serial(), validate(config, "test"), directory=directory, progress="none", **more
    )


def test_a_run_continues_with_the_defaults_of_new_options(config, tmp_path):
    run(config, tmp_path / "old")
    run(config | {"rounds": 5}, tmp_path / "unbroken")
    assert run(config | {"rounds": 5}, aged(tmp_path / "old"), resume=True) == 0
    assert digest_of(tmp_path / "old") == digest_of(tmp_path / "unbroken")
    saved = yaml.safe_load((tmp_path / "old" / "config.yaml").read_text())
    assert saved["algorithm"]["dual_step"] == 1.0


def test_an_option_that_is_gone_is_reported(config, tmp_path):
    run(config, tmp_path / "old")
    path = tmp_path / "old" / "checkpoints" / "round-000002" / "checkpoint.json"
    note = json.loads(path.read_text())
    note["identity"]["algorithm"]["momentum_of_old"] = 0.5
    note["identity"]["compression"] = {"name": "none"}
    of_old(path, note)
    gone = r"momentum_of_old: 0.5 -> \(none\)\n  compression: \{.*\} -> \(none\)$"
    with pytest.raises(ConfigError, match=gone):
        run(config, tmp_path / "old", resume=True)
