"""Clients trained in stacks: as one by one up to rounding, and the same bits anyhow."""

import json
import re

import numpy as np
import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.storage.checkpoint import find, load_server, load_states
from fedapm_mpi.training import stacks
from fedapm_mpi.training.client import train_clients
from fedapm_mpi.training.context import TrainingContext, open_context
from fedapm_mpi.training.runner import train_run
from fedapm_mpi.training.stacks import Stacks
from tests.support import ROOT
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import FEDAPM, FEDSIM, experiment

FEDAPM_FORMS = {
    "fedapm": FEDAPM,
    "fedapm-joint": {
        "name": "fedapm", "rho": 0.3, "sigma": 0.1, "batch_size": 8,
        "lr_personal": 0.1, "lr_shared": 0.1, "joint_work": {"epochs": 2},
        "weight_decay": 0.01, "server_average": "participants",
    },
    "fedapm-tolerance": FEDAPM | {
        "shared_work": {"xi": 0.05, "decay": 0.9, "max_epochs": 4},
    },
    "fedapm-steps": FEDAPM | {"shared_work": {"steps": 5}},
    "local": FEDSIM | {"name": "local"},
    "fedavg-all-samples": FEDSIM | {"name": "fedavg", "batch_size": 0},
    "fedsim": FEDSIM | {"name": "fedsim"},
}  # fmt: skip
METHODS = FEDAPM_FORMS | SHARING_ALL | SHARING_PART
WHOLE = {*SHARING_ALL, "local", "fedavg-all-samples"}

SOLVERS = {
    "clip": {"clip": {"norm": 0.05}},
    "clip-loss": {"clip": {"value": 0.01, "of": "loss"}},
    "accumulate": {"accumulate_batches": 2},
    "kept": {"optimizer": {"name": "adam", "state": "keep"}},
    "by-step": {"schedule": {"name": "cosine", "unit": "step"}, "optimizer": "adam"},
    "one-block": {"optimizer": {"name": "sgd", "personal": {"name": "adam"}}},
}


def run(folder, data, method="fedapm-joint", **changes):
    """Train three rounds in this process; return the run."""
    if method in WHOLE:
        changes.setdefault("split", None)
    more = {"dtype": "float64", "participation": {"name": "full"}, "loggers": ["jsonl"]}
    more |= {"checkpoint": {"every": 3}, "evaluation": {"every": 3}}
    own = {"algorithm": METHODS[method]} if method else {}
    values = experiment(data, **{**own, **more, **changes})
    return train_run(
        Serial(), validate(values, "test"), directory=folder, progress="none"
    )


def tensors(found):
    """Return all clients' states and the server's, by name."""
    (saved, *_) = find(found.directory / "checkpoints", [])
    states = load_states(saved, range(8))
    by_name = {(k, name): one[name] for k, one in states.items() for name in one}
    return by_name | {("server", k): v for k, v in load_server(saved).items()}


def assert_close(ours, theirs, tolerance=1e-10):
    mine, other = tensors(ours), tensors(theirs)
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        assert torch.allclose(value, other[name], rtol=tolerance, atol=tolerance), name


def records(found):
    lines = (found.directory / "rounds.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("method", METHODS)
def test_a_stack_trains_as_one_by_one_does(toy, tmp_path, method, caplog):
    """In double precision the two differ by rounding alone."""
    alone = run(tmp_path / "alone", toy["odd"], method)
    ours = run(tmp_path / "stacked", toy["odd"], method, stacked=5)
    assert "one by one" not in caplog.text
    assert_close(ours, alone)
    for mine, other in zip(records(ours), records(alone), strict=True):
        for name in ("local_steps", "train_loss", "drift", "loss", "accuracy"):
            if name in other:
                assert mine[name] == pytest.approx(other[name], rel=1e-9), name


@pytest.mark.parametrize("method", ["fedapm", "fedadmm", "iiadmm", "iceadmm"])
def test_each_client_has_its_own_penalty_and_step_size(toy, tmp_path, method):
    """Both depend on its weight, which is that of its samples."""
    changes = {"client_weights": "samples"}
    alone = run(tmp_path / "alone", toy["odd"], method, **changes)
    assert_close(
        run(tmp_path / "ours", toy["odd"], method, stacked=8, **changes), alone
    )


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, ("fedapm-joint", "pfedme")[k % 2])
     for k, name in enumerate(optimizers.builtin_names())],
)  # fmt: skip
def test_with_every_optimizer(toy, tmp_path, name, method):
    alone = run(tmp_path / "alone", toy["features"], method, optimizer=name)
    ours = run(tmp_path / "ours", toy["features"], method, optimizer=name, stacked=4)
    assert_close(ours, alone, 1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("method", ["fedapm-joint", "scaffold", "ditto"])
def test_with_every_way_to_step(toy, tmp_path, solver, method):
    changes = SOLVERS[solver]
    if method == "ditto":
        changes = {key: one for key, one in changes.items() if solver != "one-block"}
    alone = run(tmp_path / "alone", toy["features"], method, **changes)
    ours = run(tmp_path / "ours", toy["features"], method, stacked=4, **changes)
    assert_close(ours, alone, 1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["fedapm-joint", "iiadmm", "fedbabu"])
def test_neither_order_nor_neighbours_change_a_bit(toy, tmp_path, method, dtype):
    """In stacks of three, with other neighbours and in other rows."""
    found = []
    changes = {
        "algorithm": METHODS[method], "dtype": dtype, "stacked": 3, "optimizer": "adam",
        "split": None if method in WHOLE else {"personal": ["head.*"]},
    }  # fmt: skip
    for order in ([0, 1, 2, 3, 4, 5, 6, 7], [5, 2, 7, 0, 6, 3, 1, 4]):
        context, result = first_round(toy["odd"], order, **changes)
        assert result.error is None
        updates = zip(result.clients, result.updates, strict=True)
        states = {k: dict(context.table.peek(k)) for k in order}
        found.append((dict(updates), states))
    (one, states), (other, as_well) = found
    assert one.keys() == other.keys() == set(range(8))
    for k in one:
        assert np.array_equal(one[k], other[k])
        for name, value in states[k].items():
            assert torch.equal(value, as_well[k][name])


def test_a_method_that_takes_its_own_steps(toy, tmp_path):
    """Its gradients are computed for each client alone: the same to the last bit."""
    path = ROOT / "examples" / "my_algorithm.py"
    own = FEDSIM | {"name": f"{path}:FedSAM", "rho": 0.05}
    found = [
        run(tmp_path / str(stacked), toy["odd"], None, algorithm=own,
            stacked=stacked)
        for stacked in ("off", 5)
    ]  # fmt: skip
    for name, value in tensors(found[0]).items():
        assert torch.equal(value, tensors(found[1])[name]), name


def test_a_run_that_was_stopped_ends_in_the_same_bits(toy, tmp_path):
    whole = run(tmp_path / "whole", toy["features"], stacked=3, rounds=4)
    run(tmp_path / "part", toy["features"], stacked=3, rounds=2,
        checkpoint={"every": 1})  # fmt: skip
    values = experiment(
        toy["features"], algorithm=METHODS["fedapm-joint"], rounds=4, stacked=3,
        dtype="float64", participation={"name": "full"}, loggers=["jsonl"],
        checkpoint={"every": 1}, evaluation={"every": 3},
    )  # fmt: skip
    again = train_run(
        Serial(), validate(values, "t"), directory=tmp_path / "part", resume=True,
        progress="none",
    )  # fmt: skip
    assert again.digest == whole.digest


def test_another_size_is_another_experiment(toy, tmp_path):
    run(tmp_path / "run", toy["features"], stacked=3)
    values = {"stacked": 4}
    with pytest.raises(ConfigError, match=r"\n  stacked: 3 -> 4$"):
        run_again(tmp_path / "run", toy["features"], **values)


TUNED = {
    "block": "all", "lr": 0.05, "work": {"epochs": 2}, "batch_size": 7,
    "weight_decay": 0.01, "compare": True,
}  # fmt: skip


@pytest.mark.parametrize("block", ["personal", "shared", "all"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_models_are_fine_tuned_in_stacks(toy, tmp_path, block, optimizer, monkeypatch):
    tuning = TUNED | {"block": block}
    evaluation = {"every": 1, "shared_block": "both", "fine_tune": tuning}
    changes = {"evaluation": evaluation, "optimizer": optimizer}
    alone = run(tmp_path / "alone", toy["odd"], **changes)
    together = spy_on(monkeypatch)
    ours = run(tmp_path / "ours", toy["odd"], stacked=5, **changes)
    assert together["personalise"] == {4}
    assert_close(ours, alone)
    assert_evaluated_alike(ours, alone, columns=4 + 3 * 6)


@pytest.mark.parametrize("method", ["fedbabu", "fedavg-ft", "ditto", "pfedme", "flame"])
def test_a_methods_own_model_is_evaluated(toy, tmp_path, method, monkeypatch):
    alone = run(tmp_path / "alone", toy["odd"], method)
    together = spy_on(monkeypatch)
    ours = run(tmp_path / "ours", toy["odd"], method, stacked=5)
    trains = method in ("fedbabu", "fedavg-ft")
    assert together.get("personalise", set()) == ({4} if trains else set())
    assert_evaluated_alike(ours, alone, columns=10)


def spy_on(monkeypatch):
    """Return the numbers of phases that were run together, by purpose, as they come."""
    found = {}
    own = stacks.run_together

    def run_together(phases, gradients):
        purpose = phases[0].problem._address[1]
        found.setdefault(purpose, set()).add(len(phases))
        return own(phases, gradients)

    monkeypatch.setattr(stacks, "run_together", run_together)
    return found


def assert_evaluated_alike(ours, theirs, columns):
    """Check the figures of every client, and those of every record."""
    for mine, other in zip(records(ours), records(theirs), strict=True):
        for name in ("loss", "f1", "before_fine_tuning", "client_copy", "pooled"):
            if name in other:
                assert mine[name] == pytest.approx(other[name], rel=1e-8), name
    mine, other = (
        (one.directory / "clients.csv").read_text().splitlines()
        for one in (ours, theirs)
    )
    assert mine[0] == other[0]
    assert len(mine) == 9
    for row, expected in zip(mine[1:], other[1:], strict=True):
        cells = [
            [float(cell or "nan") for cell in line.split(",")[2:]]
            for line in (row, expected)
        ]
        assert len(cells[0]) >= columns - 2
        assert cells[0] == pytest.approx(cells[1], rel=1e-8, nan_ok=True)


def test_an_error_of_an_evaluation_names_the_client(toy, tmp_path):
    evaluation = {"every": 3, "fine_tune": TUNED | {"lr": 1e300}}
    with pytest.raises(TrainingError, match=r"evaluation\.fine_tune.*client \d"):
        run(tmp_path / "run", toy["odd"], stacked=5, evaluation=evaluation)


def run_again(folder, data, **changes):
    values = experiment(
        data, algorithm=METHODS["fedapm-joint"], dtype="float64", loggers=["jsonl"],
        participation={"name": "full"}, checkpoint={"every": 3},
        evaluation={"every": 3}, **changes,
    )  # fmt: skip
    return train_run(
        Serial(), validate(values, "t"), directory=folder, resume=True, progress="none"
    )


def first_round(data, order, **changes):
    """Return a context, and what its clients bring in a first round."""
    context = open_context(validate(experiment(data, **changes), "t"), Serial())
    (group,) = context.groups.members
    message = torch.zeros(context.payload.down_length, dtype=context.dtype)
    message[: context.payload.shared_length] = group.initial["shared"]
    return context, train_clients(context, 0, np.arange(8), order, message)


def test_an_error_names_the_client_and_the_round(toy, monkeypatch):
    own = TrainingContext.samples

    def samples(context, client, split):
        found = own(context, client, split)
        if client in (3, 6):
            return found._replace(inputs=(found.inputs[0] * torch.nan,))
        return found

    monkeypatch.setattr(TrainingContext, "samples", samples)
    for method in ("fedapm", "fedapm-joint"):
        options = METHODS[method]
        for more in ({}, {"clip": {"norm": 1.0}}):
            _, found = first_round(
                toy["features"], range(8), algorithm=options, stacked=8, **more
            )
            assert isinstance(found.error, TrainingError)
            first = r"the training loss is nan \(client [36], round 1"
            assert re.match(first, str(found.error))


@pytest.mark.parametrize("method", ["fedapm-joint", "fedalt-all"])
def test_a_model_is_in_training_after_an_evaluation(toy, tmp_path, method):
    changes = {"model": {"name": "user_parts:moody"}, "evaluation": {"every": 1}}
    alone = run(tmp_path / "alone", toy["features"], method, **changes)
    assert_close(
        run(tmp_path / "ours", toy["features"], method, stacked=8, **changes), alone
    )


def test_a_parameter_that_does_not_matter_has_no_gradient(toy, tmp_path):
    changes = {"model": {"name": "user_parts:constant"}, "split": {"personal": ["0.*"]}}
    alone = run(tmp_path / "alone", toy["features"], **changes)
    assert_close(run(tmp_path / "ours", toy["features"], stacked=8, **changes), alone)


def test_clients_are_drawn_in_equal_numbers(toy):
    """As many as a rank's share makes full stacks of, and the largest first."""
    stacks = Stacks({1: "the stack"}, 4, np.array([5, 9, 5, 7, 1, 2, 3, 4]))
    groups = np.array([1, 1, 1, 1, 1, 0, 1, 1])
    drawn = []

    def draw():
        for client in range(8):
            drawn.append(client)
            yield client

    found = []
    for members in stacks.divide(draw(), groups, share=6):
        found.append(members)
        assert len(drawn) <= 3 * len({tuple(one.clients) for one in found}) + 2
    assert found == [
        ([1, 0, 2], "the stack"),
        ([3, 4], "the stack"),
        ([5], None),
        ([7, 6], "the stack"),
    ]
    assert list(Stacks().divide(range(2), groups, 2)) == [([0], None), ([1], None)]
