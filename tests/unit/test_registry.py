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
from fedapm_mpi.plugins import errors as plugin_errors
from fedapm_mpi.tasks import tasks
from fedapm_mpi.training.runner import train
from tests.support.distributions import install
from tests.support.processes.cli_runs import digest_of, experiment, write_config

PLUGINS = '''\
"""Plug-ins of an installed package."""

from dataclasses import dataclass

from torch import nn

from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class Renamed(FedAvg):
    """FedAvg by another name."""

    broken: bool = False

    def client_step(self, broadcast, client, problem, weight):
        if self.broken:
            raise ValueError("no")
        return super().client_step(broadcast, client, problem, weight)


def plain(inputs, num_classes, *, hidden: int = 8):
    body = nn.Linear(inputs[0].shape[0], hidden)
    return nn.Sequential(body, nn.ReLU(), nn.Linear(hidden, num_classes))


def source(path, *, rows: int = 4):
    """A source."""
'''

ENTRY_POINTS = """\
[fedapm_mpi.algorithms]
renamed = shelf.plugins:Renamed
fedavg = shelf.plugins:Renamed
gone = shelf.plugins:Gone
away = shelf.away:Gone

[fedapm_mpi.models]
plain = shelf.plugins:plain
mlp = shelf.plugins:plain

[fedapm_mpi.tasks]
smooth = shelf.plugins : Classification

[fedapm_mpi.sources]
my_table = shelf.plugins:source

[fedapm_mpi.launchers]
aprun = shelf.plugins:plain

[other.models]
elsewhere = shelf.plugins:plain
"""

FEDAVG = {"lr": 0.1, "batch_size": 8, "work": {"epochs": 1}}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Install a distribution, and forget it afterwards."""
    site = tmp_path / "site-packages"
    (site / "shelf").mkdir(parents=True)
    (site / "shelf" / "__init__.py").touch()
    (site / "shelf" / "plugins.py").write_text(PLUGINS)
    install(site, "shelf", ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(plugin_errors, "LOADED", [])
    for registry in (algorithms, models):
        monkeypatch.setattr(registry, "_hiding", set())
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "shelf"]:
        del sys.modules[name]


def config(toy, **changes):
    algorithm = {"name": "renamed", **FEDAVG}
    return experiment(toy["features"], algorithm=algorithm, split=None) | changes


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
    message = r"algorithm 'shelf\.plugins:Renamed' failed: ValueError: no.*plugins\.py"
    with pytest.raises(FedAPMError, match=message):
        train(Serial(), broken, directory=tmp_path / "run", progress="none")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", r"shelf/plugins\.py has no 'Gone'.* entry point of shelf 1\.2"),
        ("away", r"cannot import 'shelf\.away'.* entry point of shelf 1\.2"),
    ],
)
def test_a_broken_entry_point_names_its_distribution(site, toy, name, message):
    with pytest.raises(ConfigError, match=message):
        algorithms.get(name)
    with pytest.raises(ConfigError, match=message):
        validate(config(toy, algorithm={"name": name}), "test")


def test_built_in_names_win_and_the_hidden_one_is_named(site, toy, caplog):
    assert algorithms.get("fedavg").__module__ == "fedapm_mpi.algorithms.fedavg"
    wanted = config(toy, algorithm={"name": "fedavg", **FEDAVG})
    for _ in range(2):
        assert validate(wanted, "test").algorithm["name"] == "fedavg"
    message = [record.getMessage() for record in caplog.records]
    assert sorted(message) == [
        "algorithm 'fedavg' is the built-in one; for the installed one write "
        "shelf.plugins:Renamed (shelf 1.2)",
        "model 'mlp' is the built-in one; for the installed one write "
        "shelf.plugins:plain (shelf 1.2)",
    ]


def test_two_distributions_with_one_name_are_refused(site, toy):
    other = site.parent / "other"
    install(other, "bench", "[fedapm_mpi.models]\nplain = bench:plain\n", "3")
    sys.path.insert(0, str(other))
    message = r"'plain' is declared more than once; write .*\(bench 3\).*\(shelf 1.2\)"
    try:
        with pytest.raises(ConfigError, match=message):
            validate(config(toy, model={"name": "plain"}), "test")
    finally:
        sys.path.remove(str(other))


def test_nested_names_are_resolved_too(site, toy):
    model = {"name": "lora", "rank": 2, "base": {"name": "plain"}}
    found = validate(config(toy, model=model), "test").model
    assert found["base"] == {"name": "shelf.plugins:plain"}


def test_commands_besides_train_take_installed_ones(site, tmp_path, capsys):
    assert plan("my_table", {"rows": 3}).source == "shelf.plugins:source"
    assert "my_table" in sources.names()
    assert launchers.resolve("aprun") == "shelf.plugins:plain"
    assert cli.main(["algorithms"]) == 0
    message = capsys.readouterr().out
    assert re.search(r"^renamed +installed by shelf 1\.2: shelf\.", message, re.M)
    assert re.search(r"^fedavg +Fed", message, re.M)
    assert "shelf.plugins:Renamed, hidden by the built-in fedavg" in message


def test_configurations_are_read_from_files_with_the_name(site, toy, tmp_path):
    path = write_config(tmp_path / "c.yaml", config(toy))
    assert load(path).algorithm["name"] == "shelf.plugins:Renamed"
    assert Path(site, "shelf").is_dir()
