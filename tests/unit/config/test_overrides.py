"""What becomes of a file's values when others are given for them."""

from pathlib import Path

import pytest
import yaml

from fedapm_mpi.algorithms import LocalBudget, algorithms
from fedapm_mpi.algorithms.base import budget_options
from fedapm_mpi.api import load_config
from fedapm_mpi.config.loader import load
from fedapm_mpi.config.overrides import expand_dotted, parse_overrides
from fedapm_mpi.config.renamed_keys import parameter_names
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.optim.clip_options import Clip
from fedapm_mpi.studies.scaling.study import load as load_study
from fedapm_mpi.studies.scaling.study import put
from fedapm_mpi.studies.sweep.grid import notes_on, read_sweep
from tests.support.processes.cli_runs import experiment, write_config
from tests.unit.config.test_loader import VALID, changed

MLP = {"name": "mlp", "hidden": [64, 32]}


@pytest.fixture
def resolved(tmp_path, monkeypatch):
    """Return what a file and overrides give."""
    monkeypatch.chdir(tmp_path)

    def resolve(overrides, **values):
        Path("c.yaml").write_text(yaml.safe_dump(changed(**{"model": MLP} | values)))
        return load("c.yaml", overrides)

    return resolve


@pytest.mark.parametrize(
    "overrides",
    [
        ["model={name: cnn}"],
        ["model=cnn"],
        ["model.name=cnn"],
        ["model={name: cnn, channels: [8, 16]}"],
        ["model.channels=[8, 16]", "model.name=cnn"],
        ["model.name=cnn", "model.channels=[8, 16]"],
        ["model.channels=[8, 16]", "model=cnn"],
        ["model.hidden=[3]", "model={name: mlp, hidden: [4]}", "model=cnn"],
    ],
)
def test_a_model_of_another_name_starts_afresh(resolved, overrides):
    found = resolved(overrides).model
    assert found["name"] == "cnn"
    if "channels" in str(overrides):
        assert tuple(found["channels"]) == (8, 16)
    else:
        assert found["hidden"] != (64, 32), "the default of cnn"


@pytest.mark.parametrize(
    "overrides", [["model={name: mlp}"], ["model=mlp"], ["model.name=mlp"]]
)
def test_a_model_of_the_same_name_keeps_its_options(resolved, overrides):
    assert resolved(overrides).model == {"name": "mlp", "hidden": (64, 32)}


def test_every_kind_of_part_starts_afresh(resolved):
    fedavg = "{name: fedavg, lr: 0.5, batch_size: 4, work: {epochs: 2}}"
    found = resolved(
        [
            f"algorithm={fedavg}",
            "split=null",
            "participation.name=full",
            "placement={name: contiguous}",
            "aggregator=float32",
        ],
        participation={"name": "random", "fraction": 0.5},
    )
    assert (found.algorithm["name"], found.algorithm["lr"]) == ("fedavg", 0.5)
    assert "rho" not in found.algorithm
    assert found.participation == {"name": "full"}
    assert found.placement["name"] == "contiguous"
    assert found.aggregator["name"] == "float32"


def test_the_models_of_groups_follow_that_of_the_rest(resolved):
    groups = [
        {"clients": [0], "model": {"name": "mlp", "hidden": [3]}},
        {"clients": [1], "model": {"channels": [8, 16]}},
    ]
    found = resolved(["model={name: cnn}"], groups=groups)
    assert found.groups[0].model == {"name": "mlp", "hidden": (3,)}
    assert found.groups[1].model == {**found.model, "channels": (8, 16)}


@pytest.mark.parametrize(
    ("overrides", "shared", "personal"),
    [
        (["split={shared: ['*']}"], ["*"], None),
        (["split.personal=[a]", "split={shared: ['*']}"], ["*"], None),
        (["split={shared: ['*']}", "split={personal: [b]}"], None, ["b"]),
        (["split.personal=[b, c]"], None, ["b", "c"]),
        (["split.personal=null", "split.shared=[b]"], ["b"], None),
    ],
)
def test_a_split_given_whole_replaces_the_files(resolved, overrides, shared, personal):
    split = resolved(overrides).split
    assert (split.shared, split.personal) == (shared, personal)


def test_two_ways_to_split_are_refused_with_the_way_out(resolved):
    with pytest.raises(ConfigError, match=r"exactly one of .*split={shared: "):
        resolved(["split.shared=[b]"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("clip={value: 0.5}", Clip(value=0.5)),
        ("clip={norm: 2.0}", Clip(norm=2.0)),
        ("clip.norm=2.0", Clip(norm=2.0, of="loss")),
        ("clip=null", None),
    ],
)
def test_a_clip_given_whole_replaces_the_files(resolved, override, expected):
    values = {"clip": {"norm": 1.0, "of": "loss"}}
    assert resolved([override], **values).clip == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer=sgd", {"momentum": 0.0, "state": "reset"}),
        ("optimizer={name: adam, eps: 1e-6}", {"eps": 1e-6, "state": "keep"}),
        ("optimizer.state=reset", {"eps": 1e-5, "state": "reset"}),
    ],
)
def test_an_optimizer_of_another_name_starts_afresh(resolved, override, expected):
    values = {"optimizer": {"name": "adam", "eps": 1e-5, "state": "keep"}}
    found = resolved([override], **values).optimizer
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    "override",
    [
        "algorithm.personal_work={steps: 7}",
        "algorithm={personal_work: {steps: 7}}",
        "algorithm={name: fedapm, personal_work: {steps: 7}}",
    ],
)
def test_local_work_given_whole_replaces_the_files(resolved, override):
    found = resolved([override]).algorithm
    assert (found["personal_work"]["steps"], found["personal_work"]["epochs"]) == (
        7, None,
    )  # fmt: skip
    assert found["shared_work"]["steps"] == 4, "the other is the file's"


USERS_ALGORITHM = """
from dataclasses import dataclass, field
from fedapm_mpi.algorithms import LocalBudget
from fedapm_mpi.algorithms.fedavg import FedAvg

@dataclass(frozen=True, kw_only=True)
class Phased(FedAvg):
    phase: LocalBudget
    later: LocalBudget | None = None
    some_work: dict[str, int] = field(default_factory=dict)
    budgets_work: dict[str, LocalBudget] = field(default_factory=dict)
"""
ONE, TWO = {"epochs": 1}, {"steps": 2}
OF_USERS = {
    "name": "./users.py:Phased",
    "lr": 0.1,
    "batch_size": 4,
    "work": ONE,
    "phase": ONE,
    "later": ONE,
    "some_work": {"a": 1, "b": 1},
    "budgets_work": {"first": ONE},
}


@pytest.fixture
def with_users_algorithm(resolved):
    """Return what `resolved` does, of a file that names a user's algorithm."""
    Path("users.py").write_text(USERS_ALGORITHM)
    return lambda overrides: resolved(overrides, algorithm=OF_USERS, split=None)


def without_none(budget):
    return {key: value for key, value in budget.items() if value is not None}


@pytest.mark.parametrize("option", ["work", "phase", "later"])
@pytest.mark.parametrize(
    "form", ["algorithm.{}={{steps: 2}}", "algorithm={{{}: {{steps: 2}}}}"]
)
def test_a_users_budget_given_whole_replaces_the_files(
    with_users_algorithm, option, form
):
    found = with_users_algorithm([form.format(option)]).algorithm
    for key in ("work", "phase", "later"):
        assert without_none(found[key]) == (TWO if key == option else ONE)
    assert found["some_work"] == {"a": 1, "b": 1}


def test_a_users_mapping_is_merged_whatever_its_name(with_users_algorithm):
    overrides = [
        "algorithm.some_work={b: 2, c: 2}",
        "algorithm={budgets_work: {second: {steps: 2}}}",
        "algorithm.some_work.d=3",
    ]
    found = with_users_algorithm(overrides).algorithm
    assert found["some_work"] == {"a": 1, "b": 2, "c": 2, "d": 3}
    budgets = {key: without_none(one) for key, one in found["budgets_work"].items()}
    assert budgets == {"first": ONE, "second": TWO}


def test_of_a_users_budget_given_twice_the_last_counts(with_users_algorithm):
    overrides = ["algorithm.phase={epochs: 3}", "algorithm.phase={steps: 2}"]
    assert without_none(with_users_algorithm(overrides).algorithm["phase"]) == TWO


def test_sweeps_studies_and_python_know_a_users_budgets(with_users_algorithm):
    with_users_algorithm([])
    new = {"phase": TWO, "some_work": {"b": 2}}

    def check(algorithm):
        assert without_none(algorithm["phase"]) == TWO
        assert algorithm["some_work"] == {"a": 1, "b": 2}

    grid = {f"algorithm.{key}": [value] for key, value in new.items()}
    write_config(Path("s.yaml"), {"config": "c.yaml", "grid": grid})
    ((cell,), _) = read_sweep(Path("s.yaml"))
    check(cell.config["algorithm"])
    study = {"config": "c.yaml", "overrides": {"algorithm": new}}
    write_config(Path("t.yaml"), study | {"strong": {"client_ranks": [1]}})
    check(load_study(Path("t.yaml")).config["algorithm"])
    check(load_config("c.yaml", algorithm=new).algorithm)
    values = put({"algorithm": OF_USERS}, "algorithm.phase", TWO)
    values = put(values, "algorithm.some_work", {"b": 2})
    check(values["algorithm"])


def test_an_algorithm_that_cannot_be_found_is_refused_as_such(with_users_algorithm):
    for name in ("./users.py:Phase", "fedapn", "[1]", "null"):
        overrides = [f"algorithm.name={name}", "algorithm.work={steps: 2}"]
        with pytest.raises(ConfigError) as caught:
            with_users_algorithm(overrides)
        assert "algorithm" in str(caught.value)


def test_a_mapping_of_budgets_is_no_budget():
    """Neither is a function's option without a type."""

    def factory(work: LocalBudget, other: "LocalBudget | None", some_work=None): ...

    def unresolved(work: "Missing"): ...  # noqa: F821

    class Plain:
        def __init__(self, phase: LocalBudget, more: dict[str, LocalBudget]): ...

    assert budget_options(factory) == {"work", "other"}
    assert budget_options(unresolved) == set()
    assert budget_options(Plain) == {"phase"}


@pytest.mark.parametrize("name", algorithms.builtin_names())
def test_the_budgets_of_built_in_algorithms(name):
    """Each option that a release before called so is one by its type."""
    factory = algorithms.get(name)
    found = budget_options(factory)
    assert found
    assert found == {key for key in parameter_names(factory) if key.endswith("work")}


def test_other_mappings_are_merged(resolved):
    found = resolved(["evaluation={every: 5}"], evaluation={"clients": "participants"})
    assert (found.evaluation.every, found.evaluation.clients) == (5, "participants")


def test_of_a_key_given_twice_the_last_counts():
    assert parse_overrides(["rounds=1", "rounds=2"]) == {"rounds": 2}


@pytest.mark.parametrize("item", [".a=1", "a..b=1", "a.=1", "=1", "a"])
def test_a_path_with_nothing_in_it_is_refused(item):
    with pytest.raises(ConfigError, match="key=value"):
        parse_overrides([item])


@pytest.mark.parametrize(
    "grid",
    [
        {"model": [{"name": "cnn"}, "mlp"]},
        {"model.name": ["cnn", "mlp"]},
    ],
)
def test_cells_of_a_sweep_start_afresh_as_well(resolved, grid):
    resolved([])
    grid |= {"split": [{"shared": ["*"]}, {"first": 1}]}
    Path("s.yaml").write_text(yaml.safe_dump({"config": "c.yaml", "grid": grid}))
    cells, _ = read_sweep(Path("s.yaml"))
    assert [cell.config["model"]["name"] for cell in cells] == ["cnn"] * 2 + ["mlp"] * 2
    assert cells[2].config["model"]["hidden"] == (64, 32)
    assert cells[0].config["model"]["hidden"] != (64, 32)
    assert [cell.config["split"]["first"] for cell in cells] == [None, 1] * 2


def test_the_order_of_a_sweeps_keys_does_not_count(resolved):
    resolved([])
    grid = {"model.channels": [[8, 16]], "model.name": ["cnn"]}
    Path("s.yaml").write_text(
        yaml.safe_dump({"config": "c.yaml", "grid": grid}, sort_keys=False)
    )
    ((cell,), _) = read_sweep(Path("s.yaml"))
    assert cell.config["model"]["channels"] == (8, 16)


def test_a_study_changes_its_experiment_by_the_same_rules(resolved):
    resolved([])
    values = {
        "config": "c.yaml",
        "overrides": {"model": {"name": "cnn"}, "split": {"shared": ["*"]}},
        "strong": {"client_ranks": [1]},
    }
    Path("s.yaml").write_text(yaml.safe_dump(values))
    config = load_study(Path("s.yaml")).config
    assert config["model"]["name"] == "cnn"
    assert config["split"]["shared"] == ["*"]
    assert config["split"]["personal"] is None
    assert put({"model": MLP}, "model.name", "cnn") == {"model": {"name": "cnn"}}
    assert put({"model": MLP}, "model.hidden", [1])["model"] == MLP | {"hidden": [1]}
    assert put({"a": 1}, "b.c", 2) == {"a": 1, "b": {"c": 2}}
    assert expand_dotted([("a.b", 1), ("a", {"c": 2})]) == {"a": {"b": 1, "c": 2}}
    assert VALID["split"] == {"personal": ["head.*"]}


def test_options_that_a_name_drops_are_said(tmp_path, toy):
    """An optional one would otherwise change the result without a word."""
    sgd = {"lr": 0.1, "batch_size": 8, "work": {"epochs": 1}}
    algorithm = {"name": "fedavg", **sgd, "weight_decay": 0.01}
    config = experiment(toy["features"], algorithm=algorithm, split=None)
    path = write_config(tmp_path / "c.yaml", config)
    words = ["algorithm.name=local", *(f"algorithm.{k}={v}" for k, v in sgd.items())]
    words[-1] = "algorithm.work={epochs: 1}"
    said: list[str] = []
    assert load(path, words, said.append).algorithm["weight_decay"] == 0
    assert said == [
        "algorithm: 'local' replaces 'fedavg' of the file, whose options are not used: "
        "weight_decay"
    ]
    with pytest.raises(ConfigError) as caught:
        load(path, ["algorithm=local", "algorithm.batch_size=-1"])
    assert "algorithm 'local': batch_size: input" in str(caught.value)
    assert "not used: lr, work, weight_decay" in str(caught.value)
    for unchanged in ([], ["algorithm.lr=0.2"], ["algorithm.name=fedavg"]):
        load(path, unchanged, said.append)
    assert len(said) == 1
    sweep = {"config": "c.yaml", "zip": {
        "algorithm": [algorithm, {"name": "local", **sgd}], "seed": [1, 2],
    }}  # fmt: skip
    write_config(tmp_path / "s.yaml", sweep)
    assert notes_on(read_sweep(tmp_path / "s.yaml")[0]) == said
