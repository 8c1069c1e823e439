"""A run goes on after an upgrade that brought options, unless they are used."""

import json

import pytest
import yaml

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import digest_of, experiment

NEW = {
    "algorithm": ["dual_step", "server_average"],
    "evaluation": ["split"],
    "split": ["first", "last"],
    "participation": [],
}
"""Keys, and options of theirs, that the old version did not know."""


WHOLE = (
    "groups",
    "partially_shared",
    "diagnostics",
    "tolerance",
    "aggregator",
    "client_weights",
    "task",
    "last_batch",
)


@pytest.fixture
def config(toy):
    return experiment(toy["features"], rounds=2)


def run(config, directory, **more):
    return train(
        Serial(), validate(config, "test"), directory=directory, progress="none", **more
    )


def of_old(path, note):
    """Write a description in format 1, which had no checksum of itself."""
    del note["checksum"], note["converged"]
    path.write_text(json.dumps(note | {"format": 1}, indent=1) + "\n")


def aged(run_directory):
    """Rewrite a run as a version without some of today's options would have left it."""

    def age(values):
        for key in WHOLE:
            del values[key]
        for key, options in NEW.items():
            for option in options:
                del values[key][option]

    path = run_directory / "checkpoints" / "round-000002" / "checkpoint.json"
    note = json.loads(path.read_text())
    age(note["identity"])
    of_old(path, note)
    path = run_directory / "config.yaml"
    values = yaml.safe_load(path.read_text())
    age(values)
    path.write_text(yaml.safe_dump(values))
    return run_directory


def test_a_run_goes_on_with_the_defaults_of_new_options(config, tmp_path):
    run(config, tmp_path / "old")
    run(config | {"rounds": 5}, tmp_path / "unbroken")
    assert run(config | {"rounds": 5}, aged(tmp_path / "old"), resume=True) == 0
    assert digest_of(tmp_path / "old") == digest_of(tmp_path / "unbroken")
    told = yaml.safe_load((tmp_path / "old" / "config.yaml").read_text())
    assert told["algorithm"]["dual_step"] == 1.0


def test_an_option_that_is_gone_is_told_of(config, tmp_path):
    run(config, tmp_path / "old")
    path = tmp_path / "old" / "checkpoints" / "round-000002" / "checkpoint.json"
    note = json.loads(path.read_text())
    note["identity"]["algorithm"]["momentum_of_old"] = 0.5
    note["identity"]["compression"] = {"name": "none"}
    of_old(path, note)
    gone = r"momentum_of_old: 0.5 -> \(none\)\n  compression: \{.*\} -> \(none\)$"
    with pytest.raises(ConfigError, match=gone):
        run(config, tmp_path / "old", resume=True)
