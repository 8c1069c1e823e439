"""When a run is the one that was saved, after an upgrade."""

import pytest

from fedapm_mpi.cli.train import newest_run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.identity import AS_BEFORE, LATER_KEYS, identity_of
from fedapm_mpi.training.runner import train
from tests.support.data.upgraded_runs import aged
from tests.support.processes.cli_runs import experiment


@pytest.fixture
def config(toy):
    return experiment(toy["features"], rounds=2)


def run(config, directory, **more):
    return train(
        Serial(), validate(config, "test"), directory=directory, progress="none", **more
    )


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("algorithm", {"dual_step": 0.5}),
        ("evaluation", {"split": "train"}),
        ("evaluation", {"shared_block": "both"}),
        (
            "evaluation",
            {"fine_tune": {"block": "all", "lr": 0.1, "work": {"epochs": 1}}},
        ),
        ("client_weights", "samples"),
        ("diagnostics", {"lagrangian": True}),
    ],
)
def test_a_new_option_that_is_used_is_another_experiment(config, tmp_path, key, change):
    run(config, tmp_path / "old")
    old = config.get(key)
    changed = config | {key: old | change if isinstance(old, dict) else change}
    with pytest.raises(ConfigError, match=rf"another configuration:\n  {key}.* -> .*$"):
        run(changed, aged(tmp_path / "old"), resume=True)


def test_another_replicate_is_another_experiment(config, tmp_path):
    run(config | {"replicate": 1}, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"\n  replicate: 1 -> 0$"):
        run(config, tmp_path / "run", resume=True)


def test_a_key_that_a_run_lacks_counts_as_what_was_done_without_it():
    assert AS_BEFORE["kernels"] == "native"
    assert AS_BEFORE["replicate"] == 0
    assert AS_BEFORE["accumulate_batches"] == 1
    for key, value in AS_BEFORE.items():
        assert value in LATER_KEYS[key]


def test_an_identity_lacks_keys_that_do_what_was_done_without_them():
    """So that a run which is older than the key has the same."""
    keys = {"kernels": "native", "replicate": 0, "stacked": "off", "optimizer": None}
    assert identity_of(keys | {"dtype": "float32"}) == {"dtype": "float32"}
    assert identity_of({"stacked": "auto", "replicate": 1}) == {
        "stacked": "auto",
        "replicate": 1,
    }


SOLVER = {
    "optimizer": {"name": "adam", "eps": 1e-6},
    "schedule": {"name": "cosine", "warmup": 1},
    "clip": {"norm": 1.0},
}


@pytest.fixture(scope="module")
def with_solver(toy, tmp_path_factory):
    """Return a configuration with an optimizer, a schedule and a clip, and its run."""
    config = experiment(toy["features"], rounds=2, **SOLVER)
    folder = tmp_path_factory.mktemp("solver") / "run"
    run(config, folder)
    return config, folder


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"optimizer": {"name": "adam"}}, ["optimizer.eps: 1e-06 -> 1e-08"]),
        ({"optimizer": "nadam"}, ["optimizer.name: adam -> nadam"]),
        (
            {"optimizer": SOLVER["optimizer"] | {"state": "keep"}},
            ["optimizer.state: reset -> keep"],
        ),
        ({"schedule": "linear"}, ["schedule.name: cosine -> linear"]),
        (
            {"schedule": SOLVER["schedule"] | {"unit": "step", "final": 0.5}},
            ["schedule.final: 0.0 -> 0.5", "schedule.unit: round -> step"],
        ),
        ({"clip": {"norm": 2.0}}, ["clip.norm: 1.0 -> 2.0"]),
        ({"clip": {"norm": 1.0, "of": "loss"}}, ["clip.of: direction -> loss"]),
        ({"accumulate_batches": 2}, ["accumulate_batches: 1 -> 2"]),
        (
            {"rounds": 3},
            [
                "schedule.rounds: 2 -> 3",
                "give schedule.rounds=2 to continue with its step sizes",
            ],
        ),
    ],
)
def test_another_way_to_step_is_another_experiment(with_solver, change, found):
    config, folder = with_solver
    with pytest.raises(ConfigError, match="another configuration") as caught:
        run(config | change, folder, resume=True)
    assert str(caught.value).splitlines()[1:] == [f"  {line}" for line in found]


@pytest.mark.parametrize("key", ["optimizer", "schedule", "clip"])
def test_a_run_does_not_continue_without_its_solver(with_solver, key):
    config, folder = with_solver
    with pytest.raises(ConfigError, match=rf"another configuration:\n  {key}: "):
        run(config | {key: None}, folder, resume=True)


def test_another_algorithm_is_not_filled_in(config, tmp_path):
    """Only the names are shown, since the options are of different algorithms."""
    run(config, tmp_path / "old")
    fedalt = {
        key: value
        for key, value in config["algorithm"].items()
        if key not in ("name", "units", "rho", "sigma")
    }
    other = config | {"algorithm": {"name": "fedalt", **fedalt}}
    with pytest.raises(ConfigError) as caught:
        run(other, aged(tmp_path / "old"), resume=True)
    _, *lines = str(caught.value).splitlines()
    assert lines == ["  algorithm.name: fedapm -> fedalt"]


def test_the_newest_run_of_an_experiment_may_be_older_than_an_option(config, tmp_path):
    run(config, tmp_path / "out" / "old")
    aged(tmp_path / "out" / "old")
    for name, text in {
        "empty": "", "list": "[1]", "no-yaml": "a: [", "part": "model: mlp",
        "nothing": "{}",
    }.items():  # fmt: skip
        (tmp_path / "out" / name).mkdir()
        (tmp_path / "out" / name / "config.yaml").write_text(text)
    same = validate(config | {"placement": "cost", "rounds": 9}, "test").plain()
    assert newest_run(tmp_path / "out", same) == tmp_path / "out" / "old"
    other = validate(config | {"seed": 2}, "test").plain()
    with pytest.raises(ConfigError, match="no run of this experiment"):
        newest_run(tmp_path / "out", other)


def test_the_identity_is_that_of_runs_without_later_keys(config):
    plain = validate(config, "test").plain()
    found = identity_of(plain)
    assert not found.keys() & LATER_KEYS.keys()
    assert "fine_tune" not in found["evaluation"]
    assert found["evaluation"]["every"] == 2
    tuning = {"block": "all", "lr": 0.1, "work": {"epochs": 1}}
    used = config | {"evaluation": {"fine_tune": tuning}, "accumulate_batches": 2}
    found = identity_of(validate(used, "test").plain())
    assert found["evaluation"]["fine_tune"]["lr"] == 0.1
    assert found["accumulate_batches"] == 2
    for odd in ({"evaluation": 3}, {"evaluation": None}, {}):
        assert identity_of(odd) == odd
