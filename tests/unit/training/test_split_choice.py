"""The choice of a split in a run directory, and how runs and sweeps continue by it."""

import json
import re

import pytest

from fedapm_mpi.analysis.client_model import recompute_digest
from fedapm_mpi.cli.train import newest_run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.yaml_io import read_mapping
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.sweep.grid import read_sweep
from fedapm_mpi.training import runner
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.split_record import as_asked, read_choice
from fedapm_mpi.training.split_search import SplitSearch
from tests.support.data.recorded import JOINT
from tests.support.processes.cli_runs import digest_of, experiment, write_config

AUTO = {"rounds": 2, "candidates": ["nothing", "biases", "head"], "threshold": 1.5}


def config_of(data, auto=AUTO, **changes):
    values = {"split": {"auto": auto}, "algorithm": JOINT, "rounds": 2} | changes
    return validate(experiment(data, **values), "test")


def train(path, config, **more):
    return runner.train_run(Serial(), config, directory=path, progress="none", **more)


@pytest.fixture(scope="module")
def done(toy, tmp_path_factory):
    run = tmp_path_factory.mktemp("auto") / "run"
    assert train(run, config_of(toy["features"])).finished
    return run


def test_the_run_is_one_with_the_chosen_split(toy, done, tmp_path):
    choice = json.loads((done / "split_choice.json").read_text())
    saved = read_mapping(done / "config.yaml")
    assert saved["split"]["auto"] is None
    assert saved["split"]["personal"] == choice["split"]["personal"]
    tested = {one["name"]: one for one in choice["candidates"]}
    assert choice["split"]["personal"] == tested[choice["chosen"]]["personal"]
    assert {"size", "suffices", "layers"} <= set(tested["nothing"])
    assert set(tested["nothing"]["layers"]["head.bias"]) == {
        "size", "clients", "lm", "p_value"
    }  # fmt: skip
    given = config_of(toy["features"], split={"personal": choice["split"]["personal"]})
    train(tmp_path / "given", given)
    assert digest_of(tmp_path / "given") == digest_of(done) == recompute_digest(done)


def test_it_continues_by_the_configuration_with_auto_without_another_search(
    toy, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    train(run, config_of(toy["features"], rounds=2))
    monkeypatch.setattr(SplitSearch, "run", None)  # a search would fail
    longer = train(run, config_of(toy["features"], rounds=4), resume=True)
    assert longer.finished
    monkeypatch.undo()
    whole = train(tmp_path / "whole", config_of(toy["features"], rounds=4))
    assert longer.digest == whole.digest


def test_other_options_of_the_search_cannot_continue_it(toy, done):
    other = config_of(toy["features"], AUTO | {"damping": 0.5})
    with pytest.raises(
        ConfigError, match=r"chosen with split.auto.damping=0.1, not 0."
    ):
        train(done, other, resume=True)


def test_a_damaged_record_is_named(toy, done, tmp_path):
    (tmp_path / "split_choice.json").write_text('{"auto": {}')
    with pytest.raises(
        ConfigError, match=r"cannot read .*split_choice.json .*config.ya"
    ):
        read_choice(tmp_path)
    assert read_choice(tmp_path / "absent") is None


def test_stopped_in_the_search_it_starts_again(toy, tmp_path, capfd):
    run, config = tmp_path / "run", config_of(toy["features"])
    stopped = train(run, config, stop=PreemptionGuard(requested=1))
    assert (stopped.exit_code, stopped.digest) == (75, None)
    assert re.search(
        r"stopped while the split was chosen; start again with: fedapm train --resume",
        capfd.readouterr().out,
    )
    assert not (run / "split_choice.json").exists()
    # By the run's own configuration, as --resume RUN reads it.
    again = validate(read_mapping(run / "config.yaml"), "saved")
    assert again == config
    assert train(run, again, resume=True).finished
    assert (run / "split_choice.json").exists()


def test_nothing_is_searched_before_the_directory_is_known_to_be_free(toy, tmp_path):
    (tmp_path / "other").write_text("")
    with pytest.raises(ConfigError, match="is not empty"):
        train(tmp_path, config_of(toy["features"]))
    assert not (tmp_path / "config.yaml").exists()


def test_the_newest_run_of_a_configuration_with_auto_is_found(toy, done):
    wanted = config_of(toy["features"], rounds=9).plain()
    assert newest_run(done.parent, wanted) == done
    with pytest.raises(ConfigError, match="no run of this experiment"):
        newest_run(
            done.parent, config_of(toy["features"], AUTO | {"rounds": 3}).plain()
        )
    values = read_mapping(done / "config.yaml")
    assert as_asked(values, done, {"split": {"personal": ["x"]}}) == values


def test_a_sweep_of_auto_knows_its_runs(toy, tmp_path):
    config = experiment(
        toy["features"], split={"auto": AUTO}, algorithm=JOINT, rounds=2
    )
    write_config(tmp_path / "base.yaml", config)
    sweep = write_config(
        tmp_path / "sweep.yaml",
        {"config": str(tmp_path / "base.yaml"), "grid": {"seed": [1, 2]},
         "out": str(tmp_path / "out")},
    )  # fmt: skip
    (first, _), _ = read_sweep(sweep)
    train(first.run, validate(first.config, "cell"))
    (first, second), _ = read_sweep(sweep)
    assert (first.finished, second.finished) == (True, False)


def test_a_dry_run_plans_with_the_first_candidate(toy, capfd):
    assert runner.dry_run(Serial(), config_of(toy["features"])) == 0
    printed = capfd.readouterr()
    assert "personal: 0 of" in printed.out
    assert "among 3 candidates; this is the plan for nothing" in printed.out
