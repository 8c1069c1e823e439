"""What a configuration of an older version means, and what one that a user writes."""

import shutil

import pytest
import yaml

from fedapm_mpi.algorithms import algorithms
from fedapm_mpi.algorithms.fedalt import FedAlt
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.analysis.client_model import recompute_digest
from fedapm_mpi.analysis.run import read_config
from fedapm_mpi.api import load_config
from fedapm_mpi.cli import main as cli
from fedapm_mpi.cli.train import newest_run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.former_defaults import (
    FORMER_DEFAULTS,
    inherited,
    is_resolved,
    with_former_defaults,
)
from fedapm_mpi.config.loader import load, validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.sweep.grid import read_sweep
from fedapm_mpi.training.identity import identity_of, identity_then
from fedapm_mpi.training.runner import dry_run, train
from tests.support.algorithm_options import SHARING_ALL
from tests.support.data.upgraded_runs import aged
from tests.support.processes.cli_runs import FEDAPM, digest_of, experiment
from tests.support.valid_config import VALID

OPTIONS = {
    name: SHARING_ALL[name] for name in ("fedadmm", "iiadmm", "iceadmm", "flame")
} | {"fedapm": FEDAPM}
OWN = '''
from dataclasses import dataclass
from fedapm_mpi.algorithms.fedapm import FedAPM

@dataclass(frozen=True, kw_only=True)
class Mine(FedAPM):
    """A method that inherits its unit."""

    strength: float = 1.0
'''


def without_units(algorithm):
    return {key: value for key, value in algorithm.items() if key != "units"}


def resolved(data="somewhere", **changes):
    """Return a resolved configuration as a version without the option wrote it."""
    values = validate(experiment(data, **changes), "test").plain()
    return values | {"algorithm": without_units(values["algorithm"])}


@pytest.fixture
def written(tmp_path):
    """Write a configuration and return its path."""

    def write(values, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values))
        return path

    return write


# The tables ------------------------------------------------------------------------


def test_every_method_with_the_option_has_an_entry():
    """What a method of an older version did is filled in for all that have a unit."""
    names = {name for name in algorithms.names() if inherited(algorithms.get(name))}
    assert names == set(FORMER_DEFAULTS) == set(OPTIONS)
    for name in names:
        algorithm = algorithms.get(name)(
            **{key: value for key, value in OPTIONS[name].items() if key != "name"}
        )
        assert algorithm.client_units() is False
    assert inherited(FedAPM) == {"units": "weighted"}
    assert inherited(FedAlt) == inherited(lambda units: None) == {}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_missing_is_filled_in_and_what_is_given_stays(name):
    values = {"rounds": 3, "algorithm": without_units(OPTIONS[name])}
    assert with_former_defaults(values)["algorithm"]["units"] == "weighted"
    assert "units" not in values["algorithm"]
    given = {"algorithm": OPTIONS[name] | {"units": "client"}}
    assert with_former_defaults(given) == given


@pytest.mark.parametrize("algorithm", [{"name": "fedavg", "lr": 0.1}, "fedapm", None])
def test_all_else_is_left_alone(algorithm):
    values = {"rounds": 3, "algorithm": algorithm}
    assert with_former_defaults(values) == values


def test_which_configurations_are_resolved():
    whole = resolved()
    assert is_resolved(whole)
    assert not is_resolved(VALID)
    assert not is_resolved(experiment("somewhere"))
    for key in ("threads", "buffers", "placement", "split"):
        assert not is_resolved({k: v for k, v in whole.items() if k != key})
    assert not is_resolved(whole | {"evaluation": {"every": 3}})
    assert not is_resolved(whole | {"checkpoint": None})


# Files -----------------------------------------------------------------------------


def test_what_a_user_writes_means_a_clients_own_loss(written):
    values = experiment("d", algorithm=without_units(FEDAPM))
    path = written(values)
    assert load(path).algorithm["units"] == "client"
    assert load_config(values).algorithm["units"] == "client"
    assert load(path, ["algorithm.units=weighted"]).algorithm["units"] == "weighted"


def test_a_resolved_file_of_before_means_the_weighted_form(written):
    path = written(resolved())
    assert load(path).algorithm["units"] == "weighted"
    assert load(path, ["algorithm.rho=0.5"]).algorithm["units"] == "weighted"
    assert load(path, ["algorithm.units=client"]).algorithm["units"] == "client"
    assert load_config(str(path), rounds=9).algorithm["units"] == "weighted"


def test_an_override_of_another_method_is_what_a_user_writes(written):
    path = written(resolved())
    other = "{name: iiadmm, rho: 1, zeta: 1, batch_size: 2, work: {steps: 1}}"
    config = load(path, [f"algorithm={other}", "split=null"])
    assert config.algorithm["units"] == "client"


def test_a_resolved_file_of_now_means_what_it_says(written):
    for units in ("client", "weighted"):
        config = validate(experiment("/d", algorithm=FEDAPM | {"units": units}), "test")
        assert load(written(config.plain())) == config


def test_a_users_own_method_inherits_it(written, tmp_path, monkeypatch):
    (tmp_path / "own_units.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    own = without_units(FEDAPM) | {"name": "./own_units.py:Mine"}
    path = written(resolved() | {"algorithm": own})
    old = load(path)
    assert old.algorithm["units"] == "weighted"
    assert old.algorithm["strength"] == 1.0
    user = load(written(experiment("somewhere", algorithm=own)))
    assert user.algorithm["units"] == "client"
    saved = old.plain() | {"algorithm": without_units(old.algorithm)}
    assert identity_then(saved, old.plain()) == identity_of(old.plain())
    assert identity_then(saved, user.plain()) != identity_of(user.plain())


# Runs ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Two rounds, as an older version left them, and what five rounds come to."""
    folder = tmp_path_factory.mktemp("runs")
    config = experiment(toy["features"], rounds=2)
    for name, rounds in (("old", 2), ("unbroken", 5)):
        checked = validate(config | {"rounds": rounds}, "test")
        train(Serial(), checked, directory=folder / name, progress="none")
    aged(folder / "old")
    return folder, config


@pytest.fixture
def old(runs, tmp_path):
    """A copy of the older run, which a test may continue."""
    folder, config = runs
    return shutil.copytree(folder / "old", tmp_path / "out" / "old"), config


def test_a_run_is_continued_by_its_own_directory(runs, old):
    run, _ = old
    text = (run / "config.yaml").read_text()
    assert "units" not in text
    words = ["train", "--resume", str(run), "rounds=5", "--progress", "none"]
    assert cli.main(words) == 0
    assert digest_of(run) == digest_of(runs[0] / "unbroken")
    assert yaml.safe_load((run / "config.yaml").read_text())["algorithm"]["units"] == (
        "weighted"
    )


def test_a_configuration_that_means_another_unit_by_now_is_refused(old):
    run, config = old
    values = config | {"algorithm": without_units(config["algorithm"])}
    line = r"another configuration:\n  algorithm.units: weighted -> client$"
    with pytest.raises(ConfigError, match=line):
        train(Serial(), validate(values, "test"), directory=run, resume=True)
    with pytest.raises(ConfigError, match="no run of this experiment"):
        newest_run(run.parent, validate(values, "test").plain())
    assert newest_run(run.parent, validate(config, "test").plain()) == run


def test_a_run_is_read_as_what_it_was(old):
    run, _ = old
    assert read_config(run).algorithm["units"] == "weighted"
    assert recompute_digest(run) == digest_of(run)


def test_a_sweep_tells_that_its_cells_meant_another_unit(old, tmp_path, monkeypatch):
    run, config = old
    monkeypatch.chdir(tmp_path)
    sweep = {"config": "c.yaml", "grid": {"seed": [1]}, "out": "cells"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(sweep))
    shutil.copytree(run, tmp_path / "cells" / "seed=1")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    (cell,), _ = read_sweep(tmp_path / "s.yaml")
    assert cell.config["algorithm"]["units"] == "weighted"
    user = config | {"algorithm": without_units(config["algorithm"])}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(user))
    with pytest.raises(ConfigError, match=r"algorithm.units: weighted -> client"):
        read_sweep(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("algorithm", "line"),
    [
        ({"units": "client"}, "units: client (step sizes and penalties act on a "),
        ({}, "units: weighted (step sizes and penalties act on a client's loss "),
    ],
)
def test_the_start_of_a_run_and_its_plan_state_the_unit(
    toy, tmp_path, capfd, algorithm, line
):
    values = experiment(toy["features"], rounds=1, algorithm=FEDAPM | algorithm)
    config = validate(values, "test")
    assert dry_run(Serial(), config) == 0
    train(Serial(), config, directory=tmp_path, progress="lines")
    printed = capfd.readouterr().out.splitlines()
    assert sum(one.startswith(line) for one in printed) == 2, printed
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved["algorithm"]["units"] == algorithm.get("units", "weighted")
