from pathlib import Path

import pytest
import yaml

from fedapm_mpi.config.loader import load, validate
from fedapm_mpi.config.overrides import parse_overrides
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.validation import validate_options
from fedapm_mpi.errors import ConfigError

VALID = {
    "data": "somewhere",
    "rounds": 3,
    "model": "mlp",
    "split": {"personal": ["head.*"]},
    "algorithm": {
        "name": "fedapm",
        "rho": 0.01,
        "sigma": 0.01,
        "lr_personal": 0.1,
        "lr_shared": 0.1,
        "batch_size": 10,
        "personal_work": {"epochs": 1},
        "shared_work": {"steps": 4},
    },
}


def changed(**overrides):
    return VALID | overrides


def errors_of(values) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(values, "test")
    return str(caught.value)


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


def test_every_error_is_reported_at_once_with_the_nearest_key():
    text = errors_of(
        changed(
            ruonds=5,
            seed=-1,
            model={"name": "mpl"},
            algorithm=VALID["algorithm"] | {"sgima": 1, "rho": "much", "lr_shared": -3},
            evaluation={"evry": 2},
            participation={"name": "random", "fracton": 0.5},
        )
    )
    for words in (
        "ruonds: unknown key; did you mean 'rounds'",
        "unknown model 'mpl'; did you mean 'mlp'",
        "sgima: unknown key; did you mean 'sigma'",
        "rho: input should be a valid number",
        "seed: input should be greater than or equal to 0, got -1",
        "lr_shared: input should be greater than 0",
        "evaluation.evry: unknown key; did you mean 'every'",
        "fracton: unknown key; did you mean 'fraction'",
    ):
        assert words in text, text


def test_a_missing_key_is_named():
    values = {k: v for k, v in VALID.items() if k not in ("rounds", "data")}
    text = errors_of(values)
    assert "rounds: missing" in text
    assert "data: missing" in text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"rounds": 0}, "rounds: input should be greater than or equal to 1, got 0"),
        ({"threads": 0}, "threads: input should be greater"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0"),
        ({"dtype": "float16"}, "dtype"),
        ({"split": None}, "needs to know which parameters are personal"),
        ({"split": {"personal": ["a"], "shared": ["b"]}}, "exactly one"),
        ({"split": {"personnal": ["a"]}}, "did you mean 'personal'"),
        ({"checkpoint": {"every": 0}}, "checkpoint.every: input should be greater"),
        ({"checkpoint": {"keep": 0}}, "checkpoint.keep: input should be greater"),
        ({"model": 5}, "model"),
        ({"model": {"hidden": [3]}}, "model: needs a name"),
    ],
)
def test_values_out_of_range_are_refused(overrides, words):
    assert words in errors_of(changed(**overrides))


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


@pytest.mark.parametrize("name", ["fedavg", "local"])
def test_a_split_that_would_do_nothing_is_refused(name):
    algorithm = {"name": name, "lr": 0.1, "batch_size": 5, "work": {"epochs": 1}}
    assert "remove it" in errors_of(changed(algorithm=algorithm))
    assert validate(changed(algorithm=algorithm, split=None), "test").split is None


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


def test_options_of_a_users_own_function_are_checked_by_its_signature():
    def factory(inputs, classes, *, width: int, depth: int = 2):
        raise AssertionError

    checked, errors = validate_options("model 'x'", factory, {"width": 8}, 2)
    assert (checked, errors) == ({"width": 8, "depth": 2}, [])
    _, errors = validate_options("model 'x'", factory, {"widht": 8}, 2)
    assert sorted(errors) == [
        "model 'x': widht: unknown key; did you mean 'width'? (known: depth, width)",
        "model 'x': width: missing",
    ]


def test_a_users_own_part_is_found_by_module_and_name():
    config = validate(changed(model={"name": "torch.nn:Identity"}), "test")
    assert config.model["name"] == "torch.nn:Identity"
    assert "cannot import 'no_such_module'" in errors_of(
        changed(model="no_such_module:thing")
    )
    assert "did you mean 'Identity'" in errors_of(changed(model="torch.nn:Identify"))
