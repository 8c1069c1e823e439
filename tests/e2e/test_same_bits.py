"""The same bits at any number of ranks, wherever clients live."""

import json
from tempfile import gettempdir

import numpy as np
import pytest

from fedapm_mpi.algorithms import algorithms
from fedapm_mpi.analysis.run import recompute_digest
from fedapm_mpi.participation import participation
from fedapm_mpi.placements import placements
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import (
    FEDAPM,
    FEDSIM,
    assert_same_run,
    digest_of,
    experiment,
    rounds_of,
    train,
    train_many,
    write_config,
)

pytestmark = pytest.mark.slow

RANKS = (2, 3, 5, 8)
SMALL_HAR = {
    "name": "har",
    "filters": 4,
    "hidden": 6,
    "heads": 2,
    "attention": 8,
    "classifier": 6,
    "dropout": 0.3,
}
ALTERNATING = {
    "lr_personal": 0.1,
    "lr_shared": 0.1,
    "batch_size": 8,
    "personal_work": {"steps": 3},
    "shared_work": {"epochs": 1},
    "weight_decay": 0.01,
}
JOINT = {key: v for key, v in FEDAPM.items() if not key.endswith("_work")} | {
    "block_order": "joint",
    "joint_work": {"epochs": 1},
}
BALANCED = FEDAPM | {
    "rho": 1e-3,
    "residual_balancing": {"ratio": 2.0},
    "relaxation": 1.6,
}
LOOKING = {"blocks": True, "dual_sum": True, "lagrangian": True}
EMPTY_ONLY = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


GROUPS = {
    "model": {"name": "user_parts:towers", "sides": {"x": 3, "y": 2}},
    "split": {"personal": ["inlet.*"]},
    "groups": [
        {"clients": [0, "5-6"], "model": {"hidden": 5, "sides": {"y": 2}}},
        {"names": ["client 3"], "model": {"hidden": 2, "sides": {"x": 3}}},
    ],
    "partially_shared": ["side_*"],
}


def experiments(toy):
    """Return the experiments by name; between them they use every part there is."""
    features, odd = toy["features"], toy["odd"]
    normed = {
        "model": "user_parts:batch_norm",
        "split": {"personal": ["3.*"]},
        "participation": {"name": "random", "count": 3},
    }
    return {
        "plain": experiment(features),
        "contiguous": experiment(features, placement="contiguous"),
        "round-robin": experiment(features, placement="round-robin"),
        "own-placement": experiment(features, placement="user_parts:all_on_last"),
        "staying": experiment(features, scheduling="static"),
        "scratch": experiment(features, scratch=gettempdir()),
        "dropout": experiment(
            toy["motion"],
            model=SMALL_HAR,
            split={"personal": ["*_conv.*"]},
            participation="full",
        ),
        "ragged": experiment(
            toy["ragged"],
            model=SMALL_HAR,
            split={"shared": ["fuse_att.*", "classifier.*"]},
            participation={"name": "probability", "probability": 0.6},
        ),
        "float64": experiment(
            features,
            dtype="float64",
            participation={
                "name": "probability",
                "probability": [0.0, 1.0, 0.5, 0.5, 0.2, 0.9, 0.9, 0.1],
            },
            algorithm=FEDAPM | {"weight_decay": 0.01, "alpha_in_v_step": False},
        ),
        "criterion": experiment(
            odd,
            client_weights="samples",
            split={"rule": "user_parts:is_head"},
            algorithm=FEDAPM
            | {"shared_work": {"xi": 0.01, "decay": 0.5, "max_epochs": 4}},
        ),
        "buffers-local": experiment(
            features, **normed, algorithm=FEDAPM | {"v_step_at": "local"}
        ),
        "buffers-mean": experiment(
            features, **normed, buffers="mean", algorithm=FEDAPM | {"u_init": "local"}
        ),
        "full-batch": experiment(
            odd,
            model="logistic",
            split={"personal": ["linear.bias"]},
            participation="full",
            algorithm=FEDAPM | {"batch_size": 0},
            evaluation={"every": 1, "shared_block": "client", "pooled": False},
        ),
        "frozen-front": experiment(
            features,
            algorithm=FEDAPM | {"personal_work": {"epochs": 3}},
            evaluation={"every": 1, "clients": "participants"},
        ),
        "fedalt": experiment(features, algorithm={"name": "fedalt"} | ALTERNATING),
        "fedsim": experiment(features, algorithm={"name": "fedsim"} | FEDSIM),
        "fedavg": experiment(
            odd,
            split=None,
            client_weights="samples",
            algorithm={"name": "fedavg"} | FEDSIM,
        ),
        "local": experiment(
            features, split=None, algorithm={"name": "local"} | FEDSIM
        ),
        "only-the-empty": experiment(
            odd,
            split=None,
            client_weights="samples",
            participation={"name": "probability", "probability": EMPTY_ONLY},
            algorithm={"name": "fedavg"} | FEDSIM,
        ),
        "nobody": experiment(
            features, participation={"name": "probability", "probability": 1e-12}
        ),
        "joint": experiment(odd, algorithm=JOINT | {"weight_decay": 0.01}),
        "participants": experiment(
            features,
            participation={"name": "probability", "probability": 0.3},
            algorithm=FEDAPM | {"server_average": "participants", "dual_step": 0.3},
            diagnostics=LOOKING,
        ),
        "balance": experiment(features, rounds=6, algorithm=BALANCED),
        "balance-down": experiment(
            features,
            rounds=6,
            dtype="float64",
            algorithm=JOINT
            | {"rho": 30.0, "lr_shared": 0.02}
            | {
                "residual_balancing": {
                    "ratio": 1.1,
                    "factor": 1.5,
                    "residuals": "relative",
                }
            },
        ),
        "diagnostics": experiment(
            odd,
            client_weights="samples",
            diagnostics=LOOKING,
            algorithm=FEDAPM
            | {"shared_work": {"xi": 0.01, "decay": 0.5, "max_epochs": 2}}
            | {"weight_decay": 0.02},
        ),
        "diagnostics-buffers": experiment(
            features,
            **normed,
            buffers="mean",
            algorithm=BALANCED,
            diagnostics=LOOKING,
        ),
        "tolerance": experiment(
            features,
            rounds=20,
            model="logistic",
            split={"personal": ["linear.bias"]},
            participation="full",
            algorithm=FEDAPM
            | {"batch_size": 0, "weight_decay": 0.1}
            | {"lr_shared": 1.0, "lr_personal": 1.0}
            | {"personal_work": {"steps": 8}, "shared_work": {"steps": 8}},
            tolerance={"relative": 0.2},
            diagnostics={"blocks": True},
        ),
        "groups": experiment(
            features, **GROUPS, algorithm=BALANCED, diagnostics=LOOKING
        ),
        "groups-all-shared": experiment(
            features,
            **GROUPS
            | {
                "split": None,
                "groups": [{"clients": [1, "4-5"], "model": {"sides": {"y": 2}}}],
            },
            algorithm=SHARING_ALL["scaffold"],
            client_weights="samples",
        ),
        "adapters": experiment(
            features,
            model={
                "name": "lora",
                "base": {"name": "mlp", "hidden": [8, 6]},
                "frozen": ["body.0.*"],
            },
            split={"shared": ["*.lora_*"]},
        ),
        "ends": experiment(
            features,
            model={"name": "mlp", "hidden": [8, 6]},
            split={"first": 1, "last": 1},
        ),
        "lacking": experiment(
            toy["lacking"],
            model={"name": "har", "filters": 2, "hidden": 4, "attention": 4},
            split={"personal": ["*_conv.*"]},
            groups=[{"missing_inputs": ["gyro"]}, {"missing_inputs": ["acc"]}],
            partially_shared=["acc_rnn.*", "gyro_rnn.*"],
            algorithm=FEDAPM | {"server_average": "participants"},
        ),
        **{
            name: experiment(features, split=None, algorithm=algorithm)
            for name, algorithm in SHARING_ALL.items()
        },
        **{
            name: experiment(features, algorithm=algorithm)
            for name, algorithm in SHARING_PART.items()
        },
    }  # fmt: skip


TOYS = ("features", "odd", "motion", "ragged", "lacking")
NAMES = tuple(experiments(dict.fromkeys(TOYS, "")))
SAME = (
    "plain",
    "contiguous",
    "round-robin",
    "own-placement",
    "staying",
    "scratch",
)
"""They differ only in where clients live, are worked on and are kept."""


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Return a function from a number of ranks to the folder of all runs on so many."""
    root = tmp_path_factory.mktemp("same-bits")
    configs = {
        name: write_config(root / f"{name}.yaml", config)
        for name, config in experiments(toy).items()
    }
    finished = {}

    def on(ranks):
        if ranks not in finished:
            folder = root / str(ranks)
            done = train_many(
                ranks,
                {
                    name: ["train", path, "--run-dir", folder / name]
                    for name, path in configs.items()
                },
                folder / "output",
            )
            for name, one in done.items():
                assert one.codes == [0] * ranks, f"{name}: {one}"
            finished[ranks] = folder
        return finished[ranks]

    return on


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_ranks(runs, name, ranks):
    assert_same_run(runs(ranks) / name, runs(1) / name)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", SAME[1:])
def test_any_placement(runs, name, ranks):
    assert_same_run(runs(ranks) / name, runs(ranks) / SAME[0])


def test_placements_did_differ(runs):
    """The control: clients did live elsewhere."""
    places = set()
    for name in SAME:
        path = runs(5) / name / "provenance.json"
        told = json.loads(path.read_text())
        places.add(tuple(told["clients_per_rank"]))
        assert told["processor"]
        assert told["processor_model"]
    assert (0, 0, 0, 0, 8) in places
    assert len(places) >= 2


def test_other_experiments_have_other_digests(runs):
    """The control: a digest does tell two runs apart."""
    digests = [digest_of(runs(1) / name) for name in NAMES if name not in SAME[1:]]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_that_of_the_state_in_final(runs, name, monkeypatch):
    from tests.support import PLUGINS

    monkeypatch.syspath_prepend(PLUGINS)
    run = runs(3) / name
    assert recompute_digest(run) == digest_of(run)


def test_training_did_something(runs):
    for name in set(NAMES) - {"nobody", "only-the-empty"}:
        first, *_, last = [r for r in rounds_of(runs(1) / name) if "loss" in r]
        assert last["loss"] != first["loss"], name


def test_runs_by_the_command_line_alone(runs, toy, tmp_path):
    """Each run above shared its processes with others; this one does not."""
    config = write_config(tmp_path / "plain.yaml", experiments(toy)["plain"])
    ended = train(3, config, "--run-dir", tmp_path / "run")
    assert ended.returncode == 0, ended
    assert_same_run(tmp_path / "run", runs(1) / "plain")
    assert ended.stdout.splitlines()[-1] == f"digest {digest_of(tmp_path / 'run')}"


def test_only_rank_0_talks(runs):
    output = runs(5) / "output"
    for name in NAMES:
        for rank in range(5):
            texts = [
                (output / f"{name}.{kind}.{rank}").read_text()
                for kind in ("stdout", "stderr")
            ]
            assert bool(texts[0]) == (rank == 0)
            assert texts[1] == ""


def test_more_ranks_than_clients_are_idle_and_told_of(runs):
    told = (runs(8) / "output" / "dropout.stdout.0").read_text()
    assert "note: 7 ranks host clients but there are 6: 1 idle" in told


def test_empty_and_constant_clients(runs):
    """Client 2 has one label, 3 nothing to test on, and 4 nothing to train on."""
    run = runs(3) / "criterion"
    told = (runs(3) / "output" / "criterion.stdout.0").read_text()
    assert "1 of 8 clients have no train samples: they take no local step" in told
    assert "1 of 8 clients have no test samples: they are left out" in told
    header, *rows = (run / "clients.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    assert [row["train_samples"] for row in table][4] == "0"
    assert table[3]["test_samples"] == "0"
    assert table[3]["accuracy"] == table[3]["loss"] == ""
    assert table[2]["auroc"] == ""
    assert float(table[2]["auroc_absent_zero"]) == 0
    assert float(table[2]["accuracy"]) >= 0
    tested = [float(row["accuracy"]) for row in table if row["accuracy"]]
    last = rounds_of(run)[-1]
    assert len(tested) == 7
    assert last["accuracy"] == pytest.approx(np.mean(tested))


@pytest.mark.parametrize("name", ["nobody", "only-the-empty"])
def test_rounds_without_a_step_change_no_model(runs, name):
    first, *_, last = [r for r in rounds_of(runs(3) / name) if "loss" in r]
    assert last["loss"] == first["loss"]
    assert last["train_loss"] is None
    assert last["num_participants"] == (name != "nobody")


def test_penalties_did_change_and_a_run_ended_early(runs):
    """The control: these experiments do what they are there for."""
    used = {
        name: [r["rho"] for r in rounds_of(runs(1) / name)[1:]]
        for name in ("balance", "balance-down")
    }
    assert used["balance"][-1] > 4 * used["balance"][0]
    assert used["balance-down"][-1] < used["balance-down"][0] / 2
    ended = rounds_of(runs(1) / "tolerance")
    assert ended[-1]["converged"] is True
    assert 3 < len(ended) < 20


def test_every_part_is_among_the_experiments(toy):
    used = {key: set() for key in ("algorithm", "participation", "placement")}
    for config in experiments(toy).values():
        for key, names in used.items():
            part = config.get(key, "cost")
            names.add(part if isinstance(part, str) else part["name"])
    assert used["algorithm"] >= set(algorithms.names())
    assert used["participation"] >= set(participation.names())
    assert used["placement"] >= set(placements.names())
