"""Plug-ins by name: built in, of an installed distribution, or a user's own."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from data_prep.pipeline import plan
from data_prep.sources import sources
from fedapm_mpi.algorithms import algorithms
from fedapm_mpi.cli import main as cli
from fedapm_mpi.cluster.launchers import launchers
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import load, validate
from fedapm_mpi.config.plugin_sources import hashes, user_plugins
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.models import models
from fedapm_mpi.tasks import tasks
from fedapm_mpi.training.runner import train
from tests.support.installed_shelf import FEDAVG, PLUGINS, config
from tests.support.processes.cli_runs import digest_of, write_config


def test_names_include_the_installed_ones(site):
    assert {"renamed", "fedavg", "fedapm"} <= set(algorithms.names())
    assert "renamed" not in algorithms.builtin_names()
    assert "elsewhere" not in models.names()
    assert sys.modules.get("shelf.plugins") is None  # only metadata were read
    assert algorithms.get("renamed").__name__ == "Renamed"
    assert tasks.get("smooth").__name__ == "Classification"
    with pytest.raises(ConfigError, match="'plane'; did you mean 'plain'"):
        models.get("plane")


def test_an_installed_algorithm_trains_as_the_one_that_it_derives_from(
    site, toy, tmp_path
):
    run = tmp_path / "run"
    wanted = validate(config(toy, model={"name": "plain"}), "test")
    assert train(Serial(), wanted, directory=run, progress="none") == 0
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["algorithm"]["name"] == "shelf.plugins:Renamed"
    assert written["model"]["name"] == "shelf.plugins:plain"
    known = config(toy, algorithm={"name": "fedavg", **FEDAVG})
    known["model"] = {"name": "shelf.plugins:plain"}
    other = validate(known, "test")
    train(Serial(), other, directory=tmp_path / "other", progress="none")
    assert digest_of(run) == digest_of(tmp_path / "other")
    more = validate(config(toy, model={"name": "plain"}, rounds=4), "test")
    assert train(Serial(), more, directory=run, resume=True, progress="none") == 0


def test_it_counts_as_a_users_own_code(site, toy, tmp_path):
    """In trust and identity: a changed source is another experiment."""
    run = tmp_path / "run"
    plain = validate(config(toy), "test")
    train(Serial(), plain, directory=run, progress="none")
    assert set(user_plugins(plain.plain())) == {"algorithm"}
    assert list(hashes(plain.plain())) == ["shelf/plugins.py"]
    assert (run / "own_parts.json").exists()
    (site / "shelf" / "plugins.py").write_text(PLUGINS + "\n# changed\n")
    with pytest.raises(ConfigError, match=r"shelf/plugins\.py"):
        train(Serial(), plain, directory=run, resume=True, progress="none")


def test_its_failure_is_its_own(site, toy, tmp_path):
    algorithm = {"name": "renamed", **FEDAVG, "broken": True}
    broken = validate(config(toy, algorithm=algorithm), "test")
    told = r"algorithm 'shelf\.plugins:Renamed' failed: ValueError: no.*plugins\.py"
    with pytest.raises(FedAPMError, match=told):
        train(Serial(), broken, directory=tmp_path / "run", progress="none")


def test_nested_names_are_resolved_too(site, toy):
    model = {"name": "lora", "rank": 2, "base": {"name": "plain"}}
    found = validate(config(toy, model=model), "test").model
    assert found["base"] == {"name": "shelf.plugins:plain"}


def test_commands_besides_train_take_installed_ones(site, tmp_path, capsys):
    assert plan("my_table", {"rows": 3}).source == "shelf.plugins:source"
    assert "my_table" in sources.names()
    assert launchers.resolve("aprun") == "shelf.plugins:plain"
    assert cli.main(["algorithms"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^renamed +installed by shelf 1\.2: shelf\.", told, re.M)
    assert re.search(r"^fedavg +Fed", told, re.M)
    assert "shelf.plugins:Renamed, hidden by the built-in fedavg" in told


def test_configurations_are_read_from_files_with_the_name(site, toy, tmp_path):
    path = write_config(tmp_path / "c.yaml", config(toy))
    assert load(path).algorithm["name"] == "shelf.plugins:Renamed"
    assert Path(site, "shelf").is_dir()
