"""The clients of a run, without devices, storage or samples."""

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import DataError
from fedapm_mpi.federation.federation import (
    Federation,
    build_algorithm,
    build_federation,
    client_weights,
    place,
)
from fedapm_mpi.training.context import open_context
from tests.support.processes.cli_runs import experiment


def built(data, size=3, **changes) -> Federation:
    config = validate(experiment(data, **changes), "test")
    algorithm = build_algorithm(config.algorithm)
    return build_federation(config, read_manifest(config.data), algorithm, size)


def test_it_needs_the_manifest_and_no_samples(toy, tmp_path):
    name = "manifest.json"
    (tmp_path / name).write_bytes((toy["features"] / name).read_bytes())
    found = built(tmp_path)
    assert found.num_clients == 8
    assert found.targets.size == 3
    assert found.groups.space.size > 0


def test_homes_are_where_the_placement_puts_clients(toy):
    found = built(toy["features"], size=4)
    assert set(found.home_ranks) == {1, 2, 3}  # rank 0 is the server
    for rank in range(4):
        own = np.flatnonzero(found.home_ranks == rank).tolist()
        assert found.homes.clients_of(rank) == own
    alone = place({"name": "cost"}, found.manifest, 1)
    assert not alone.any()


def test_weights_sum_to_one(toy):
    manifest = read_manifest(str(toy["odd"]))
    uniform = built(toy["odd"]).weights
    assert np.array_equal(uniform, np.full(len(uniform), 1 / len(uniform)))
    weighted = built(toy["odd"], client_weights="samples").weights
    assert weighted.sum() == pytest.approx(1)
    counts = manifest.counts["train"]
    assert np.array_equal(weighted, counts / counts.sum())


def test_weights_by_samples_need_samples(toy, monkeypatch):
    config = validate(experiment(toy["features"], client_weights="samples"), "test")
    manifest = read_manifest(config.data)
    monkeypatch.setitem(manifest.counts, "train", np.zeros(8, np.int64))
    with pytest.raises(DataError, match="no client has any training sample"):
        client_weights(config, manifest)


def test_all_clients_are_evaluated_or_the_last_participants(toy):
    everyone = built(toy["features"])
    assert everyone.evaluated(0).tolist() == list(range(8))
    some = built(toy["features"], evaluation={"clients": "participants"})
    assert some.evaluated(0).tolist() == []
    assert some.evaluated(2).tolist() == some.participants(1).tolist()


def test_participants_depend_on_the_round_and_not_on_who_asks(toy):
    one, other = (built(toy["features"], size=size) for size in (1, 5))
    drawn = [one.participants(t).tolist() for t in range(5)]
    assert drawn == [other.participants(t).tolist() for t in range(5)]
    assert len({tuple(chosen) for chosen in drawn}) > 1


def test_more_ranks_than_clients_are_a_warning(toy):
    (text,) = built(toy["features"]).warnings(12)
    assert "11 ranks host clients but there are 8: 3 idle" in text


def opened(data, **changes):
    return open_context(validate(experiment(data, **changes), "test"), Serial())


def test_costs_follow_the_work(toy):
    session = opened(
        toy["odd"],
        algorithm={
            "name": "fedavg-ft",
            "lr": 0.1,
            "batch_size": 8,
            "work": {"epochs": 2},
        }
        | {"fine_tune_work": {"epochs": 3}, "lr_fine_tune": 0.1},
        split=None,
    )
    counts = session.federation.manifest.counts
    assert (session.federation.training_costs == 2 * counts["train"]).all()
    expected = counts["test"] + 3 * 3 * counts["train"]
    assert np.array_equal(session.federation.evaluation_costs, expected)


@pytest.mark.parametrize(
    ("evaluation", "tested", "trained"),
    [
        ({}, 1, 0),
        ({"shared_block": "both"}, 2, 0),
        ({"fine_tune": {"work": {"epochs": 3}}}, 1, 3),
        ({"fine_tune": {"work": {"epochs": 3}, "compare": True}}, 2, 3),
        (
            {"shared_block": "both"}
            | {"fine_tune": {"work": {"epochs": 2}, "compare": True}},
            4,
            4,
        ),
    ],
)
def test_an_evaluation_costs_what_each_of_its_models_does(
    toy, evaluation, tested, trained
):
    if "fine_tune" in evaluation:
        tuning = {"block": "all", "lr": 0.1} | evaluation["fine_tune"]
        evaluation = evaluation | {"fine_tune": tuning}
    found = built(toy["odd"], evaluation=evaluation)
    counts = found.manifest.counts
    expected = tested * counts["test"] + 3 * trained * counts["train"]
    assert np.array_equal(found.evaluation_costs, expected)


def test_steps_of_fine_tuning_cost_by_its_own_batches(toy):
    tuning = {"block": "all", "lr": 0.1, "work": {"steps": 5}}
    own, theirs = (
        built(toy["features"], evaluation={"fine_tune": tuning | size})
        for size in ({"batch_size": 2}, {})
    )
    counts = own.manifest.counts
    assert (counts["train"] > 8).all()  # 8 is the method's
    for found, size in ((own, 2), (theirs, 8)):
        expected = counts["test"] + 3 * 5 * size
        assert np.array_equal(found.evaluation_costs, expected)
