"""Who is evaluated, by which models, and that it changes nothing of the training."""

import csv

import numpy as np
import pytest
import torch

from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.evaluation import client_columns
from fedapm_mpi.training.runner import train
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.experiments import SMALL_HAR
from tests.support.processes.cli_runs import (
    FEDAPM,
    FEDSIM,
    digest_of,
    experiment,
    rounds_of,
)

CHANCE = {"name": "probability", "probability": [0.5] * 7 + [0.0]}
TUNING = {"block": "all", "lr": 0.3, "work": {"steps": 5}, "weight_decay": 0.01}
NORMED = {
    "model": "user_parts:batch_norm",
    "split": {"personal": ["3.*"]},
    "buffers": "mean",
}
DROPOUT = {"model": SMALL_HAR, "split": {"personal": ["*_conv.*"]}}
METRICS = Classification().metric_set().names
TUNED_BY_THEMSELVES = {"fedavg-ft", "fedbabu"}


def run(data, directory, clients, **changes):
    values = experiment(
        data,
        evaluation={"every": 1, "clients": clients},
        participation=CHANCE,
        **changes,
    )
    config = validate(values, "test")
    assert train(Serial(), config, directory=directory, progress="none") == 0
    with (directory / "clients.csv").open() as file:
        rows = {int(row["client"]): row for row in csv.DictReader(file)}
    return open_context(config, Serial()), rounds_of(directory), rows


def test_participants_alone(toy, tmp_path):
    _, everybody, rows = run(toy["features"], tmp_path / "all", "all")
    session, records, found = run(toy["features"], tmp_path / "some", "participants")
    assert digest_of(tmp_path / "all") == digest_of(tmp_path / "some")
    last = session.federation.participants(session.config.rounds - 1).tolist()
    assert 0 < len(last) < 7
    assert found == {i: rows[i] for i in last}
    accuracy = np.mean([float(rows[i]["accuracy"]) for i in last])
    assert records[-1]["accuracy"] == pytest.approx(accuracy, rel=1e-6)
    tested = [int(rows[i]["test_samples"]) for i in last]
    pooled = np.average([float(rows[i]["accuracy"]) for i in last], weights=tested)
    assert records[-1]["pooled"]["accuracy"] == pytest.approx(pooled, rel=1e-6)
    assert len(rows) == 8
    # Before training no client has taken part.
    assert "accuracy" not in records[0]
    assert "accuracy" in everybody[0]
    assert all("accuracy" in record for record in records[1:])


def test_a_round_without_participants_evaluates_no_client(toy, tmp_path):
    hardly_any = {"name": "probability", "probability": 1e-12}
    values = experiment(
        toy["features"],
        evaluation={"every": 1, "clients": "participants"},
        participation=hardly_any,
    )
    directory = tmp_path / "run"
    config = validate(values, "test")
    assert train(Serial(), config, directory=directory, progress="none") == 0
    assert not any("accuracy" in record for record in rounds_of(directory))
    assert not (directory / "clients.csv").exists()


def evaluated(data, directory, evaluation, **changes):
    """Return the records and the clients' rows of a run, evaluated in every round."""
    values = experiment(data, evaluation={"every": 1} | evaluation, **changes)
    config = validate(values, "test")
    assert train(Serial(), config, directory=directory, progress="none") == 0
    with (directory / "clients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rounds_of(directory), rows


def without(record, *keys):
    return {key: value for key, value in record.items() if key not in keys}


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        ("odd", {"client_weights": "samples"}),
        ("motion", {"model": SMALL_HAR, "precision": "bf16"}),
        ("features", {"optimizer": "adam", "dtype": "float64"}),
        ("features", {"model": "user_parts:batch_norm", "buffers": "mean"}),
        ("features", {"clip": {"norm": 0.2}, "accumulate_batches": 2}),
    ],
)
def test_fedavg_ft_is_fedavg_fine_tuned_before_the_evaluation(
    toy, tmp_path, data, changes
):
    method = {"lr": 0.05, "batch_size": 4, "work": {"epochs": 1}, "weight_decay": 0.01}
    own = {"lr_fine_tune": 0.03, "fine_tune_work": {"steps": 5}}
    wanted = evaluated(
        toy[data], tmp_path / "own", {}, split=None,
        algorithm={"name": "fedavg-ft"} | method | own, **changes,
    )  # fmt: skip
    found = evaluated(
        toy[data], tmp_path / "option", {"fine_tune": TUNING | {"lr": 0.03}},
        split=None, algorithm={"name": "fedavg"} | method, **changes,
    )  # fmt: skip
    assert found == wanted
    assert digest_of(tmp_path / "option") == digest_of(tmp_path / "own")
    for client in (0, 3):
        one, other = (
            load_client_model(tmp_path / name, client).state_dict()
            for name in ("own", "option")
        )
        assert all(torch.equal(one[name], other[name]) for name in one)


METHODS = {
    "fedapm": (FEDAPM, ("personal", "shared", "all")),
    "fedsim": ({"name": "fedsim"} | FEDSIM, ("personal", "shared", "all")),
    "local": ({"name": "local"} | FEDSIM, ("personal", "all")),
    **{name: (made, ("shared", "all")) for name, made in SHARING_ALL.items()},
    **{name: (made, ("personal", "all")) for name, made in SHARING_PART.items()},
}


@pytest.mark.parametrize("name", sorted(METHODS.keys() - TUNED_BY_THEMSELVES))
def test_any_method_can_be_fine_tuned_and_trains_the_same(toy, tmp_path, name):
    algorithm, blocks = METHODS[name]
    parted = name in ("fedapm", "fedsim", *SHARING_PART)
    split = {"personal": ["head.*"]} if parted else None

    def run_with(key, **evaluation):
        return evaluated(
            toy["features"], tmp_path / key, {"split": "train"} | evaluation,
            algorithm=algorithm, split=split, rounds=2,
        )  # fmt: skip

    plain, _ = run_with("plain")
    losses = {}
    for block in blocks:
        tuning = {"block": block, "lr": 0.1, "work": {"epochs": 2}, "compare": True}
        records, rows = run_with(block, fine_tune=tuning)
        assert digest_of(tmp_path / block) == digest_of(tmp_path / "plain")
        losses[block] = records[-1]["loss"]
        for one, other in zip(records, plain, strict=True):
            own = one["before_fine_tuning"]
            assert {key: own[key] for key in own if key in other} == {
                key: other[key] for key in own if key in other
            }
            assert one.get("train_loss") == other.get("train_loss")
            assert one.get("primal_residual") == other.get("primal_residual")
        # What is trained on the evaluated samples gets better on them.
        assert losses[block] < plain[-1]["loss"]
        for row in rows:
            found = {key: float(row[key] or "nan") for key in METRICS}
            assert found["loss"] != float(row["before_fine_tuning_loss"])
    # Each block's phase has an order of samples of its own.
    assert len(set(losses.values())) == len(losses)


def literally_tuned(run, client, samples, block, make, steps, decay):
    """Return an untuned model of a run after full-batch steps, by autograd and torch.

    `make` is the torch.optim class with its options.
    """
    module = load_client_model(run, client)
    named = dict(module.named_parameters())
    chosen = [
        p for name, p in named.items()
        if block == "all" or (block == "personal") == name.startswith("head.")
    ]  # fmt: skip
    optimizer = make(chosen)
    for parameter in named.values():
        parameter.requires_grad_(True)
    for _ in range(steps):
        optimizer.zero_grad()
        scores = module(*samples.inputs)
        loss = torch.nn.functional.cross_entropy(scores, samples.targets)
        square = sum((p * p).sum() for p in chosen)
        (loss + decay / 2 * square).backward()
        optimizer.step()
    return module


@pytest.mark.parametrize("block", ["personal", "shared", "all"])
@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        (None, lambda chosen: torch.optim.SGD(chosen, lr=0.2)),
        (
            {"name": "adam", "betas": [0.8, 0.9], "state": "keep"},
            lambda chosen: torch.optim.Adam(chosen, lr=0.2, betas=(0.8, 0.9)),
        ),
    ],
)
def test_fine_tuning_by_hand(toy, tmp_path, block, optimizer, make):
    """Schedules and kept optimizer states of the training are not used."""
    common = {"dtype": "float64", "optimizer": optimizer, "participation": "full",
              "schedule": {"name": "exponential", "gamma": 0.5}}  # fmt: skip
    tuning = {"block": block, "lr": 0.2, "work": {"steps": 4}, "batch_size": 0}
    tuning["weight_decay"] = 0.05
    evaluated(toy["features"], tmp_path / "plain", {}, **common)
    _, rows = evaluated(
        toy["features"], tmp_path / "run", {"fine_tune": tuning}, **common
    )
    session = open_context(
        validate(experiment(toy["features"], **common), "test"), Serial()
    )
    for client in (0, 5):
        samples = session.samples(client, "train")
        module = literally_tuned(
            tmp_path / "plain", client, samples, block, make, 4, 0.05
        )
        tuned = load_client_model(tmp_path / "run", client).state_dict()
        for name, tensor in module.state_dict().items():
            torch.testing.assert_close(tuned[name], tensor, rtol=1e-12, atol=1e-13)
        test = session.samples(client, "test")
        with torch.no_grad():
            scores = module(*test.inputs)
        loss = torch.nn.functional.cross_entropy(scores, test.targets)
        assert float(rows[client]["loss"]) == pytest.approx(float(loss), rel=1e-12)
        hits = (scores.argmax(1) == test.targets).double().mean()
        assert float(rows[client]["accuracy"]) == pytest.approx(float(hits), rel=1e-12)


@pytest.mark.parametrize("changes", [NORMED, DROPOUT], ids=["normed", "dropout"])
def test_every_variant_has_the_metrics_of_a_run_of_its_own(toy, tmp_path, changes):
    """So no variant changes another: not its batches, dropout or averaged buffers."""
    data = toy["motion"] if changes is DROPOUT else toy["features"]
    changes = changes | {"rounds": 2}
    single = {
        (at, tuned): evaluated(
            data, tmp_path / f"{at}-{tuned}",
            {"shared_block": at} | ({"fine_tune": TUNING} if tuned else {}), **changes,
        )
        for at in ("server", "client")
        for tuned in (True, False)
    }  # fmt: skip
    every = {"shared_block": "both", "fine_tune": TUNING | {"compare": True}}
    records, rows = evaluated(data, tmp_path / "every", every, **changes)
    names = {
        "": ("server", True),
        "client_copy": ("client", True),
        "before_fine_tuning": ("server", False),
        "client_copy_before_fine_tuning": ("client", False),
    }
    nested = [name for name in names if name]
    for name, key in names.items():
        alone, theirs = single[key]
        assert digest_of(tmp_path / "every") == digest_of(tmp_path / "-".join(map(
            str, key
        )))  # fmt: skip
        for record, other in zip(records, alone, strict=True):
            if not name:
                assert without(record, *nested) == other
                continue
            own = record[name]
            pooled = {k: v for k, v in own.items() if k.startswith("pooled_")}
            assert without(own, *pooled) == {k: other[k] for k in without(own, *pooled)}
            assert {f"{m}_std" for m in METRICS} < own.keys()
            flat = {f"pooled_{m}": other["pooled"][m] for m in METRICS}
            assert pooled == flat
        prefix = f"{name}_" if name else ""
        columns = (*METRICS, *Classification.client_counts)
        for row, other in zip(rows, theirs, strict=True):
            assert {k: row[prefix + k] for k in columns} == {
                k: other[k] for k in columns
            }
    last = records[-1]
    losses = {last["loss"], *(last[name]["loss"] for name in nested)}
    assert len(losses) == 4


def test_columns_of_variants_follow_those_that_were_always_there(toy):
    config = validate(experiment(toy["features"]), "test")
    both = validate(
        experiment(toy["features"], evaluation={"shared_block": "both"}), "test"
    )
    task = Classification()
    old = client_columns(task, config.evaluation.variants)
    new = client_columns(task, both.evaluation.variants)
    assert new[: len(old)] == old
    wanted = [f"client_copy_{key}" for key in (*METRICS, *task.client_counts)]
    assert new[len(old) :] == wanted


@pytest.mark.parametrize("pooled", [True, False])
def test_clients_without_samples(toy, tmp_path, pooled):
    """Client 3 has nothing to test on, client 4 nothing to train on."""
    options = {"shared_block": "both", "pooled": pooled}
    options["fine_tune"] = TUNING | {"compare": True}
    records, rows = evaluated(toy["odd"], tmp_path / "run", options)
    assert rows[3]["accuracy"] == rows[3]["client_copy_accuracy"] == ""
    assert rows[3]["evaluated_samples"] == "0"
    assert rows[4]["train_samples"] == "0"
    assert rows[4]["loss"] == rows[4]["before_fine_tuning_loss"]
    assert rows[5]["loss"] != rows[5]["before_fine_tuning_loss"]
    assert ("pooled" in records[-1]) is pooled
    assert ("pooled_loss" in records[-1]["client_copy"]) is pooled


def test_fine_tuning_that_diverges_is_named(toy, tmp_path):
    tuning = TUNING | {"lr": 1e30, "work": {"steps": 20}}
    with pytest.raises(TrainingError, match=r"evaluation\.fine_tune: the training"):
        evaluated(toy["features"], tmp_path / "run", {"fine_tune": tuning})
