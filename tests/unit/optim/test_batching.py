"""What becomes of the last batch of an epoch, above all where it is one sample."""

import numpy as np
import pytest
import torch
from torch import nn

from fedapm_mpi.algorithms import LocalBudget
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.assignment import samples_processed
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from fedapm_mpi.utils.rng import generator
from tests.support.data.odd_batches import COUNTS, FEDAVG, write
from tests.support.processes.cli_runs import experiment


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("last-batch") / "odd"
    write(directory)
    return directory


def config(data, kind="batch", algorithm=FEDAVG, **changes):
    values = experiment(
        data,
        model={"name": "odd_models:normed", "kind": kind},
        algorithm=algorithm,
        participation={"name": "full"},
        rounds=1,
        split=None,
    )
    return validate(values | changes, "test")


@pytest.mark.parametrize(
    ("n", "size", "last", "least", "sizes"),
    [
        (9, 4, "auto", 1, [4, 4, 1]),
        (9, 4, "auto", 2, [4, 5]),
        (10, 4, "auto", 2, [4, 4, 2]),
        (8, 4, "auto", 2, [4, 4]),
        (5, 4, "auto", 2, [5]),
        (3, 4, "auto", 2, [3]),
        (1, 4, "auto", 2, [1]),
        (3, 1, "auto", 2, [1, 1, 1]),
        (9, 0, "auto", 2, [9]),
        (9, 4, "keep", 2, [4, 4, 1]),
        (9, 4, "drop", 1, [4, 4]),
        (10, 4, "drop", 1, [4, 4]),
        (8, 4, "drop", 1, [4, 4]),
        (3, 4, "drop", 1, [3]),
        (9, 4, "merge", 1, [4, 5]),
        (10, 4, "merge", 1, [4, 6]),
        (7, 4, "merge", 1, [7]),
        (3, 4, "merge", 1, [3]),
        (0, 4, "merge", 1, []),
        (0, 0, "auto", 1, []),
    ],
)
def test_sizes_of_an_epochs_batches(n, size, last, least, sizes):
    batching = Batching(last, least)
    assert batching.sizes(n, size) == sizes
    assert batching.smallest(np.array([n, n]), size).tolist() == [min(sizes or [0])] * 2
    assert batching.passed(np.array([n]), size).tolist() == [sum(sizes)]


def test_the_smallest_batch_of_many_clients():
    for last in ("auto", "keep", "drop", "merge"):
        for size in (0, 1, 4):
            batching = Batching(last, 2)
            counts = np.arange(30)
            expected = [min(batching.sizes(n, size), default=0) for n in range(30)]
            assert batching.smallest(counts, size).tolist() == expected


def problem(n, batching):
    torch.manual_seed(0)
    model = PartitionedModel(nn.Sequential(nn.Linear(4, 3)), set())
    model.batching = batching
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    samples = Samples((x,), {}, torch.arange(n) % 3)
    return LocalObjective(model, samples, seed=3, round_index=0, client=0)


@pytest.mark.parametrize(
    ("last", "steps"),
    [("keep", [4, 4, 1, 4, 4]), ("drop", [4] * 5), ("merge", [4, 5, 4, 5, 4])],
)
def test_a_budget_of_steps_counts_batches_as_they_are(last, steps):
    found = list(problem(9, Batching(last)).batches("joint", LocalBudget(steps=5), 4))
    assert [len(batch) for batch in found] == steps


@pytest.mark.parametrize("last", ["auto", "keep", "drop", "merge"])
def test_batches_are_cut_from_one_order_whatever_the_rule(last):
    rng = generator(3, "batches", 0, 0, 2)
    orders = [rng.permutation(9).tolist() for _ in range(2)]
    p = problem(9, Batching(last))
    found = [batch.tolist() for batch in p.batches("joint", LocalBudget(epochs=2), 4)]
    half = len(found) // 2
    for order, batches in zip(orders, (found[:half], found[half:]), strict=True):
        rows = [row for batch in batches for row in batch]
        assert rows == order[: sum(map(len, batches))]


def by_hand(data, sizes_of, client):
    """Return FedAvg's model of a client after a round alone, in a plain torch loop."""
    session = open_context(config(data), Serial())
    samples = session.samples(client, "train")
    module = session.groups.of(client).model.module.train()
    parameters = list(module.parameters())
    rng = generator(1, "batches", 0, client, 2)
    for _ in range(2):
        order = torch.from_numpy(rng.permutation(len(samples.targets)))
        for rows in torch.split(order[: sum(sizes_of[client])], sizes_of[client]):
            found = module(samples.inputs[0][rows])
            loss = nn.functional.cross_entropy(found, samples.targets[rows])
            slopes = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, slope in zip(parameters, slopes, strict=True):
                    parameter -= 0.1 * slope
    return module


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, [[4, 5], [4, 4], [4, 4, 4], [5]]),
        ({"last_batch": "merge"}, [[4, 5], [4, 4], [4, 4, 4], [5]]),
        ({"last_batch": "drop"}, [[4, 4], [4, 4], [4, 4, 4], [4]]),
    ],
)
def test_training_with_batch_norm_is_that_of_a_plain_loop(
    data, tmp_path, changes, sizes
):
    local = {**FEDAVG, "name": "local"}
    wanted = config(data, algorithm=local, **changes)
    train(Serial(), wanted, directory=tmp_path / "run", progress="none")
    for client in range(len(COUNTS)):
        expected = by_hand(data, sizes, client)
        found = load_client_model(tmp_path / "run", client)
        for (name, a), b in zip(
            expected.state_dict().items(), found.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(b, a, msg=f"client {client}: {name}")
        assert found.norm.num_batches_tracked == 2 * len(sizes[client])


def test_a_model_that_can_train_on_one_sample_still_does(data):
    for kind, least in (("layer", 1), ("batch", 2), ("own", 2)):
        (group,) = open_context(config(data, kind), Serial()).groups.members
        assert group.model.batching.least == least
        if kind == "own":
            assert group.model.batching.reason.startswith("its loss or gradient is not")
        if kind == "batch":
            buffers = dict(group.model.module.named_buffers())
            assert buffers["norm.num_batches_tracked"] == 0, "the trial left no trace"
            assert not buffers["norm.running_mean"].any()


def test_fine_tuning_follows_the_rule(data, tmp_path):
    tuned = {**FEDAVG, "name": "fedavg-ft", "lr_fine_tune": 0.1}
    tuned["fine_tune_work"] = {"epochs": 1}
    wanted = config(data, algorithm=tuned)
    assert train(Serial(), wanted, directory=tmp_path / "run", progress="none") == 0
    module = load_client_model(tmp_path / "run", 0)
    assert module.norm.num_batches_tracked == 2 * 2 + 2


def test_costs_leave_out_what_is_dropped(data):
    algorithm = open_context(config(data), Serial()).algorithm
    counts = read_manifest(str(data)).counts["train"]
    work = algorithm.local_budgets(), algorithm.mini_batch_size()
    assert samples_processed(*work, counts).tolist() == [18, 16, 24, 10]
    found = samples_processed(*work, counts, batching=Batching("drop"))
    assert found.tolist() == [16, 16, 24, 8]


def test_an_unknown_rule_is_refused(data):
    with pytest.raises(ConfigError, match="last_batch"):
        config(data, last_batch="skip")
