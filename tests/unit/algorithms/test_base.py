"""Abilities are methods of an algorithm; no field has a meaning by its name."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml

from fedapm_mpi.algorithms.base import (
    ABILITIES,
    REQUIRED_METHODS,
    LocalBudget,
    adapt,
    algorithms,
    interface_faults,
)
from fedapm_mpi.algorithms.fedsim import FedSim
from fedapm_mpi.cli import main as cli
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import load
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.plugins import errors as plugin_errors
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.server import restore_server
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import FEDAPM, FEDSIM, digest_of, experiment

FEDSAM = '''
"""FedSAM (Qu et al., ICML 2022), as a subclass and as a class of its own."""

from dataclasses import dataclass
from typing import ClassVar

from fedapm_mpi.algorithms.base import LocalBudget, Sharing, weighted_delta
from fedapm_mpi.algorithms.fedsim import FedSim


def sharpness_aware_steps(problem, budget, batch_size, lr, radius):
    """Step along the gradient at the point of the ball where the loss rises most."""
    u = problem.shared
    for batch in problem.batches("joint", budget, batch_size):
        ascent = problem.gradient("both", batch)
        ascent = ascent * (radius / (ascent.norm() + 1e-12))
        u.add_(ascent)
        gradient = problem.gradient("both", batch)
        u.sub_(ascent).sub_(gradient, alpha=lr)


@dataclass(frozen=True, kw_only=True)
class FedSAM(FedSim):
    rho: float = 0.05
    """Radius of the ball."""

    sharing: ClassVar[Sharing] = "all"

    def client_step(self, broadcast, client, problem, weight):
        problem.shared.copy_(broadcast[0])
        sharpness_aware_steps(
            problem, self.work, self.batch_size, self.lr, self.rho
        )
        return self.make_update(problem.shared, broadcast[0], client, weight)


@dataclass(frozen=True, kw_only=True)
class Plain:
    lr: float
    batch_size: int
    epochs: int
    rho: float = 0.05
    balance: bool = True
    fine_tune_x: int = 3
    some_work: LocalBudget = LocalBudget(epochs=1000)
    admm_penalty: float = 0.1
    server_memory_rows: int = 5

    sharing: ClassVar[str] = "all"
    rows: ClassVar[int] = 1

    def new_client(self, shared, personal):
        return {"shared": shared.clone(), "personal": personal.clone()}

    def client_step(self, broadcast, client, problem, weight):
        problem.shared.copy_(broadcast[0])
        budget = LocalBudget(epochs=self.epochs)
        sharpness_aware_steps(problem, budget, self.batch_size, self.lr, self.rho)
        client["shared"].copy_(problem.shared)
        return weighted_delta(problem.shared, broadcast[0], weight)

    def server_step(self, server, total, round_):
        server[0].add_(total[0] / round_.weight_sum)
'''
SUBCLASS = {"name": "./fedsam.py:FedSAM", **FEDSIM}
PLAIN = {"name": "./fedsam.py:Plain", "lr": 0.1, "batch_size": 8, "epochs": 2}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder with a user's file, and forget its module afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugin_errors, "LOADED", [])
    (tmp_path / "fedsam.py").write_text(FEDSAM)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def write_config(data, algorithm):
    values = experiment(data, algorithm=algorithm, split=None)
    Path("config.yaml").write_text(yaml.safe_dump(values))
    return values


@pytest.mark.parametrize("algorithm", [SUBCLASS, PLAIN], ids=["subclass", "plain"])
def test_fedsam_has_a_radius_and_no_penalty(toy, here, algorithm):
    write_config(toy["features"], algorithm)
    words = ["train", "config.yaml", "--run-dir", "run", "--progress", "none"]
    assert cli.main(words) == 0
    records = [json.loads(x) for x in Path("run/rounds.jsonl").read_text().splitlines()]
    assert len(records) == 4
    for record in records:
        assert record.get("rho") is None
        assert record.get("dual_residual") is None
        assert "dual_relative" not in record
    server = restore_server(open_context(load(Path("config.yaml")), Serial()), None)
    assert server.rho is None
    assert len(server.penalties) == 0
    assert len(server.rows) == 1


def test_a_subclass_and_a_plain_class_train_alike(toy, here):
    words = ["train", "config.yaml", "--progress", "none", "--run-dir"]
    digests = []
    for name, algorithm in (("a", SUBCLASS), ("b", PLAIN)):
        write_config(toy["features"], algorithm)
        assert cli.main([*words, name]) == 0
        digests.append(digest_of(Path(name)))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("key", ["tolerance", "diagnostics.lagrangian"])
def test_what_needs_a_penalty_is_refused_for_fedsam(toy, here, key):
    values = write_config(toy["features"], SUBCLASS)
    more = (
        {"tolerance": {"absolute": 0.1, "relative": 0.1}}
        if key == "tolerance"
        else {"diagnostics": {"lagrangian": True}}
    )
    Path("config.yaml").write_text(yaml.safe_dump(values | more))
    with pytest.raises(ConfigError, match=f"{key} needs"):
        open_context(load(Path("config.yaml")), Serial())


class Duck:
    """Has what an algorithm needs, and nothing else."""

    sharing, rows = "all", 2

    def new_client(self, shared, personal):
        return {"shared": shared, "personal": personal}

    def client_step(self, broadcast, client, problem, weight):
        return broadcast

    def server_step(self, server, total, round_):
        server.add_(total)


def test_a_class_that_does_not_inherit_has_the_defaults():
    duck = Duck()
    for name in (*ABILITIES, "rho", "balance", "batch_size", "fine_tune_work"):
        setattr(duck, name, LocalBudget(epochs=1))  # a value is no method
    adapted = adapt(duck)
    assert (adapted.sharing, adapted.rows) == ("all", 2)
    assert adapted.server_memory_rows() == 0
    assert adapted.admm_penalty() is None
    assert adapted.mini_batch_size() is None
    assert not adapted.adapts_penalty()
    assert adapted.scheduled_penalty(1) is None
    assert list(adapted.local_budgets()) == list(adapted.fine_tuning_budgets()) == []
    assert list(adapted.trained_blocks()) == []
    assert adapted.warnings([1.0]) == []
    assert not adapted.has_personal_model
    assert not adapted.has_lagrangian
    server = torch.ones(2, 3)
    adapted.server_step(server, server.clone(), None)
    assert server.tolist() == [[2.0] * 3] * 2
    assert adapt(adapted) is adapted


class Able(Duck):
    def load_personal_model(self, broadcast, client, problem, weight):
        problem.append(weight)

    def warnings(self, weights):
        return [f"{len(weights)} clients"]

    def server_memory_rows(self):
        return 3


def test_methods_of_a_class_that_does_not_inherit_count():
    adapted = adapt(Able())
    assert adapted.has_personal_model
    calls = []
    adapted.load_personal_model(None, {}, calls, 0.5)
    assert calls == [0.5]
    assert adapted.warnings([0.5, 0.5]) == ["2 clients"]
    assert adapted.server_memory_rows() == 3
    assert not adapted.has_lagrangian


def test_a_field_that_hides_an_ability_is_refused():
    with pytest.raises(TypeError, match=r"Bad\.warnings: an algorithm has a method"):

        @dataclass(frozen=True, kw_only=True)
        class Bad(FedSim):
            warnings: bool = False


def test_what_a_class_lacks_is_named():
    assert interface_faults(Duck()) == []
    assert len(interface_faults(object())) == len(REQUIRED_METHODS) + 2

    class Old(Duck):
        def personalise(self, broadcast, client, problem, weight):
            pass

    (fault,) = interface_faults(Old())
    assert fault == "has personalise, which is now load_personal_model: rename it"


@pytest.mark.parametrize("where", ["class", "instance", "subclass"])
def test_an_optimizer_of_the_algorithms_own_is_refused_with_a_hint(where):
    """It would silently be without effect."""
    if where == "subclass":

        @dataclass(frozen=True, kw_only=True)
        class Momentum(FedSim):
            local_optimizer: str = "heavy ball"

        made = Momentum(lr=0.1, batch_size=4, work=LocalBudget(epochs=1))
    else:
        made = type("Momentum", (Duck,), {})()
        (type(made) if where == "class" else made).local_optimizer = object()
    (fault,) = interface_faults(made)
    assert fault.startswith("has local_optimizer, which has no effect, as steps follow")
    assert "the key optimizer of the configuration" in fault
    assert fault.endswith("remove it")


WITH_OPTIMIZER = FEDSAM.replace(
    "class Plain:", "class Plain:\n    local_optimizer = None"
)


def test_a_run_with_an_optimizer_in_the_algorithm_names_the_key(toy, here, capsys):
    Path("fedsam.py").write_text(WITH_OPTIMIZER)
    write_config(toy["features"], PLAIN)
    assert cli.main(["train", "config.yaml", "--run-dir", "run"]) == 2
    reported = capsys.readouterr().err
    assert "algorithm './fedsam.py:Plain' has local_optimizer" in reported
    assert "the key optimizer of the configuration" in reported


@pytest.mark.parametrize("algorithm", [SUBCLASS, PLAIN], ids=["subclass", "plain"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer", "adam"),
        ("optimizer", {"name": "sgd", "momentum": 0.5}),
        ("schedule", "cosine"),
        ("clip", {"norm": 1.0}),
        ("accumulate_batches", 2),
    ],
)
def test_steps_without_minimize_are_refused_where_they_are_configured(
    toy, here, capsys, algorithm, key, value
):
    """FedSAM takes its steps by itself: the key would silently be without effect."""
    values = write_config(toy["features"], algorithm) | {key: value}
    Path("config.yaml").write_text(yaml.safe_dump(values))
    assert cli.main(["train", "config.yaml", "--run-dir", "run"]) != 0
    reported = capsys.readouterr().err
    assert f"algorithm '{algorithm['name']}' takes its steps without minimize" in (
        reported
    )
    assert "remove them" in reported


def test_plain_sgd_may_be_written_where_steps_are_taken_without_minimize(toy, here):
    values = write_config(toy["features"], SUBCLASS) | {"optimizer": "sgd"}
    Path("config.yaml").write_text(yaml.safe_dump(values))
    assert cli.main(["train", "config.yaml", "--run-dir", "run"]) == 0


@dataclass(frozen=True, kw_only=True)
class Nested(FedSim):
    """A subclass as a file with postponed annotations has it."""

    more: "LocalBudget | None" = None
    sharing: ClassVar[str] = "all"


def test_mappings_become_the_dataclass_of_their_field():
    made = Nested(lr=0.1, batch_size=4, work={"epochs": 1}, more={"steps": 3})
    assert made.work == LocalBudget(epochs=1)
    assert made.more == LocalBudget(steps=3)
    with pytest.raises(ValueError, match="more takes epochs or steps"):
        Nested(
            lr=0.1, batch_size=4, work={"epochs": 1},
            more={"xi": 0.1, "decay": 0.5, "max_epochs": 2},
        )  # fmt: skip


EVERY = {
    "fedapm": FEDAPM,
    "fedsim": {"name": "fedsim"} | FEDSIM,
    "fedavg": {"name": "fedavg"} | FEDSIM,
    "local": {"name": "local"} | FEDSIM,
    **SHARING_ALL,
    **SHARING_PART,
}


@pytest.mark.parametrize("name", EVERY)
def test_budgets_of_every_algorithm(name):
    """Each option that is a budget is one of training or of fine-tuning."""
    algorithm = build_plugin(algorithms, EVERY[name])
    assert adapt(algorithm) is algorithm
    found = [*algorithm.local_budgets(), *algorithm.fine_tuning_budgets()]
    given = [x for x in vars(algorithm).values() if isinstance(x, LocalBudget)]
    assert sorted(map(str, found)) == sorted(map(str, given))
    assert algorithm.local_budgets()
    blocks = algorithm.trained_blocks()
    assert len(blocks) in (0, len(algorithm.local_budgets()))
    takes_empty = algorithm.sharing == "split" and EVERY[name]["name"] != "fedbabu"
    assert blocks or not takes_empty
    assert algorithm.mini_batch_size() == EVERY[name]["batch_size"]
    assert (algorithm.admm_penalty() is None) == ("rho" not in EVERY[name])
