from pathlib import Path

import pytest
import yaml

from fedapm_mpi.config.loader import load, validate
from fedapm_mpi.config.overrides import parse_overrides
from fedapm_mpi.config.schema import Config
from fedapm_mpi.errors import ConfigError
from tests.support.valid_config import VALID, changed, errors_of


def test_a_valid_tree_comes_back_with_every_default():
    config = validate(VALID, "test")
    assert config.model == {"name": "mlp", "hidden": (128,)}
    assert config.algorithm["u_init"] == "global"
    assert config.algorithm["shared_work"]["steps"] == 4
    assert config.participation == {"name": "full"}
    assert config.evaluation.every == 10


def test_plain_values_survive_yaml_and_come_back_equal(tmp_path):
    config = validate(changed(data=str(tmp_path)), "test")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.plain()), encoding="utf-8")
    again = load(path)
    assert Config.from_plain(again.plain()).plain() == again.plain() == config.plain()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rho": 0}, "rho: input should be greater than 0, got 0"),
        ({"sigma": -1}, "sigma: input should be greater than or equal to 0"),
        ({"lr_shared": 0}, "lr_shared: input should be greater than 0"),
        ({"v_step_at": "here"}, "v_step_at"),
        ({"shared_work": {}}, "exactly one of epochs, steps, xi"),
        ({"shared_work": {"epochs": 1, "steps": 2}}, "exactly one"),
        ({"shared_work": {"epochs": 0}}, "epochs must be at least 1"),
        ({"shared_work": {"epoch": 1}}, "did you mean 'epochs'"),
        ({"shared_work": {"xi": 0.5}}, "all three or none"),
        ({"shared_work": {"xi": 0.5, "decay": 1.0, "max_epochs": 3}}, "decay"),
        (
            {"personal_work": {"xi": 0.5, "decay": 0.5, "max_epochs": 3}},
            "only fedapm's shared_work",
        ),
    ],
)
def test_hyper_parameters_are_checked_before_the_run(options, words):
    algorithm = VALID["algorithm"] | options
    assert words in errors_of(changed(algorithm=algorithm))


def test_overrides_nest_and_bare_names_grow_options():
    values = parse_overrides(
        ["rounds=7", "model=mlp", "model.hidden=[3,4]", "split=null", "data="]
    )
    assert values == {
        "rounds": 7,
        "model": {"name": "mlp", "hidden": [3, 4]},
        "split": None,
        "data": None,
    }


@pytest.mark.parametrize("item", ["rounds", "=3", "a=[1"])
def test_an_override_that_is_none_is_refused(item):
    with pytest.raises(ConfigError, match="override"):
        parse_overrides([item])


def test_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(VALID), encoding="utf-8")
    config = load(
        path, ["algorithm.rho=1e-3", "participation=random", "participation.count=2"]
    )
    assert config.algorithm["rho"] == 1e-3  # which YAML alone reads as text
    assert config.algorithm["sigma"] == 0.01
    assert config.participation["count"] == 2


@pytest.mark.parametrize("text", ["- a\n", "a: [", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load(path)


def test_the_data_are_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(yaml.safe_dump(VALID), encoding="utf-8")
    assert load("c.yaml").data == str(tmp_path / "somewhere")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(tmp_path / "none.yaml")


def test_a_users_own_part_is_found_by_module_and_name():
    config = validate(changed(model={"name": "torch.nn:Identity"}), "test")
    assert config.model["name"] == "torch.nn:Identity"
    assert "cannot import 'no_such_module'" in errors_of(
        changed(model="no_such_module:thing")
    )
    assert "did you mean 'Identity'" in errors_of(changed(model="torch.nn:Identify"))
