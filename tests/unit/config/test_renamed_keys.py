"""Old names of keys are read wherever they were written, and mean the same."""

import json

import pytest
import yaml

from fedapm_mpi.analysis.client_model import load_client_model, recompute_digest
from fedapm_mpi.cli.train import newest_run
from fedapm_mpi.cluster.site import read_site
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import load, validate
from fedapm_mpi.config.overrides import WholeValue
from fedapm_mpi.config.renamed_keys import (
    RENAMED_KEYS,
    with_new_names,
    with_new_options,
)
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.scaling import study as scaling
from fedapm_mpi.studies.sweep.grid import notes_on, read_sweep
from fedapm_mpi.training.runner import train
from tests.support.old_names import old_names
from tests.support.processes.cli_runs import digest_of, experiment

OLD = {
    "dealing": "rank",
    "reduction": {"name": "float32"},
    "held_by_some": ["a.*"],
    "stage": "/fast",
    "evaluation": {"every": 2, "shared": "client"},
    "groups": [{"model": {"hidden": [3]}, "lacks": ["gyro"]}, {"names": ["a*"]}],
    "algorithm": {
        "name": "fedapm",
        "balance": {"ratio": 3.0, "smallest": 0.1, "largest": 2.0},
    },
}
NEW = {
    "scheduling": "static",
    "aggregator": {"name": "float32"},
    "partially_shared": ["a.*"],
    "stage_dir": "/fast",
    "evaluation": {"every": 2, "shared_block": "client"},
    "groups": [
        {"model": {"hidden": [3]}, "missing_inputs": ["gyro"]},
        {"names": ["a*"]},
    ],
    "algorithm": {
        "name": "fedapm",
        "residual_balancing": {"ratio": 3.0, "rho_min": 0.1, "rho_max": 2.0},
    },
}


def test_every_old_key_has_its_new_name():
    values, notes = with_new_names(OLD)
    assert values == NEW
    assert list(values) == list(NEW)  # in the order in which they were written
    assert notes[0] == "dealing is now scheduling, and its value rank is now static"
    assert "groups[0].lacks is now groups[0].missing_inputs" in notes
    assert len(notes) == len(RENAMED_KEYS["configuration"])
    assert with_new_names(NEW) == (NEW, [])


def test_values_that_replace_others_still_do():
    values, _ = with_new_names({"evaluation": WholeValue({"shared": "client"})})
    assert isinstance(values["evaluation"], WholeValue)


def test_both_names_of_a_key_are_an_error():
    with pytest.raises(ConfigError, match=r"old name of evaluation\.shared_block"):
        with_new_names({"evaluation": {"shared": "client", "shared_block": "client"}})


@pytest.mark.parametrize("odd", [{"groups": 3}, {"evaluation": []}, {"algorithm": 1}])
def test_what_is_no_configuration_stays_as_it_is(odd):
    assert with_new_names(odd) == (odd, [])


def test_an_own_algorithm_may_call_its_options_as_it_likes():
    own = {"algorithm": {"name": "mine:Mine", "balance": 1}}
    assert with_new_names(own) == (own, [])
    override = {"algorithm": {"balance": 1}}
    assert with_new_names(override, algorithm="mine:Mine") == (override, [])
    assert with_new_options({"balance": 1}, ["balance", "rho"]) == {"balance": 1}
    assert with_new_options({"balance": 1}, ["residual_balancing", "balance"]) == {
        "balance": 1
    }
    found = with_new_options(
        {"rho": 1.0, "balance": {"smallest": 2}}, ["rho", "residual_balancing"]
    )
    assert found == {"rho": 1.0, "residual_balancing": {"rho_min": 2}}


def test_a_file_and_overrides_may_mix_old_and_new_names(toy, tmp_path):
    values = experiment(toy["features"]) | {"dealing": "rank", "reduction": "exact"}
    values["algorithm"] = values["algorithm"] | {"balance": {"ratio": 3.0}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    notes: list[str] = []
    words = ["scheduling=dynamic", "reduction=float32", "evaluation.shared=client"]
    words += ["algorithm.residual_balancing.smallest=0.001"]
    config = load(path, words, notes.append)
    assert (config.scheduling, config.aggregator) == ("dynamic", {"name": "float32"})
    assert config.evaluation.shared_block == "client"
    assert config.algorithm["residual_balancing"]["ratio"] == 3.0
    assert config.algorithm["residual_balancing"]["rho_min"] == 0.001
    (note,) = notes
    assert note.count("reduction is now aggregator") == 1
    assert "evaluation.shared is now evaluation.shared_block" in note


@pytest.fixture
def config(toy):
    values = experiment(toy["features"], rounds=4)
    balancing = {"residual_balancing": {"ratio": 2.0, "rho_min": 1e-4}}
    return values | {"algorithm": values["algorithm"] | balancing}


def begun(config, directory):
    """Train two rounds, and leave the run as the old version would have."""
    checked = validate(config | {"rounds": 2}, "test")
    train(Serial(), checked, directory=directory, progress="none")
    path = directory / "checkpoints" / "round-000002" / "checkpoint.json"
    note = json.loads(path.read_text())
    note["identity"] = old_names(note["identity"])
    assert note["identity"]["algorithm"]["balance"]["smallest"] == 1e-4
    del note["checksum"], note["converged"]
    path.write_text(json.dumps(note | {"format": 1}, indent=1) + "\n")
    path = directory / "config.yaml"
    values = old_names(yaml.safe_load(path.read_text()))
    assert values["dealing"] == "node"
    path.write_text(yaml.safe_dump(values))
    return directory


def test_a_run_under_old_names_is_read_and_continued(config, tmp_path):
    train(Serial(), validate(config, "test"), directory=tmp_path / "unbroken")
    run = begun(config, tmp_path / "out" / "old")
    assert recompute_digest(run) == digest_of(run)
    assert load_client_model(run, 0) is not None
    checked = validate(config, "test")
    assert newest_run(tmp_path / "out", checked.plain()) == run
    assert train(Serial(), checked, directory=run, resume=True) == 0
    assert digest_of(run) == digest_of(tmp_path / "unbroken")
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert list(written) == list(checked.plain())


def test_another_experiment_is_reported_by_the_new_names(config, tmp_path):
    run = begun(config, tmp_path / "old")
    other = validate(config | {"aggregator": "float32"}, "test")
    with pytest.raises(ConfigError, match=r"\n  aggregator.name: exact -> float32$"):
        train(Serial(), other, directory=run, resume=True)


def test_a_sweep_under_old_names_finds_its_runs(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(old_names(validate(config, "test").plain()))
    )
    sweep = {"config": "c.yaml", "grid": {"algorithm.balance.smallest": [1e-4, 1e-3]}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(sweep | {"out": "runs"}))
    cells, out = read_sweep(tmp_path / "s.yaml")
    assert [cell.name for cell in cells] == ["smallest=0.0001", "smallest=0.001"]
    begun(config, out / cells[0].name)
    again, _ = read_sweep(tmp_path / "s.yaml")
    found = [cell.config["algorithm"]["residual_balancing"] for cell in again]
    assert [one["rho_min"] for one in found] == [1e-4, 1e-3]
    (note,) = notes_on(again)
    assert "reduction is now aggregator" in note


def test_a_study_under_old_names(config, tmp_path, capfd):
    old = {
        "config": config, "change": {"dealing": "rank"}, "warm_up": 0, "cores": 2,
        "strong": {"client_ranks": [1]},
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(old))
    found = scaling.load(path)
    assert (found.warmup_rounds, found.cpus_per_rank) == (0, 2)
    assert found.config["scheduling"] == "static"
    printed = capfd.readouterr().err
    assert "change is now overrides; warm_up is now warmup_rounds" in printed
    assert "its value rank is now static" in printed
    saved = found.plain() | {"config": old_names(found.plain()["config"])}
    path.write_text(yaml.safe_dump(saved))
    assert scaling.read(path).plain() == found.plain()
    assert scaling.put(found.config, "dealing", "node")["scheduling"] == "dynamic"


def test_a_site_profile_under_old_names(tmp_path, capfd):
    path = tmp_path / "site.yaml"
    path.write_text("{cores: 4, memory: 8G, gpu_binding: closest}")
    site = read_site(path)
    assert (site.cpus_per_task, site.mem, site.gpu_bind) == (4, "8G", "closest")
    assert capfd.readouterr().err == (
        f"fedapm: note: {path}: old names of keys are still read, but cores is now "
        "cpus_per_task; memory is now mem; gpu_binding is now gpu_bind\n"
    )
