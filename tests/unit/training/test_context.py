"""The parts of a run on one rank."""

import dataclasses

import numpy as np
import pytest
import torch

from fedapm_mpi.aggregators import Aggregator
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.storage.tensor_store import Storage
from fedapm_mpi.training.context import TrainingContext, open_context
from tests.support.processes.cli_runs import FEDAPM, experiment


def opened(data, **changes) -> TrainingContext:
    return open_context(validate(experiment(data, **changes), "test"), Serial())


def test_the_layout_follows_the_configuration(toy):
    plain = opened(toy["features"]).payload
    assert (plain.rows, plain.buffer_length, plain.dual_sum) == (1, 0, False)
    dual = opened(toy["features"], diagnostics={"dual_sum": True}).payload
    assert dual.up_length == plain.up_length + plain.shared_length
    mean = opened(
        toy["features"],
        model={"name": "tests.support.plugins.user_parts:batch_norm"},
        split={"personal": ["3.*"]},
        buffers="mean",
    ).payload
    assert mean.buffer_length > 0


def test_a_client_that_is_late_starts_with_the_configured_penalty(toy):
    balanced = FEDAPM | {"residual_balancing": {"every": 1}}
    context = opened(toy["features"], algorithm=balanced)
    context.use_penalty(7.0)
    assert context.algorithm.admm_penalty() == 7.0
    state = context.table.checkout(3)
    assert state["rho"].item() == FEDAPM["rho"]


def test_no_penalty_leaves_the_algorithm_as_it_is(toy):
    context = opened(toy["features"])
    before = context.algorithm
    context.use_penalty(None)
    context.use_penalty(FEDAPM["rho"])
    assert context.algorithm is before


def test_samples_are_read_once(toy):
    context = opened(toy["features"])
    first = context.samples(2, "train")
    assert context.samples(2, "train").targets is first.targets
    assert first.inputs[0].dtype == torch.float32


class AnyOrder(Aggregator):
    bytes_per_element = 8
    any_order = True

    def sum(self, comm, updates, context):
        return np.zeros(context.length)


def test_participants_move_only_if_the_sum_allows_it(toy):
    context = opened(toy["features"], scheduling="static")
    assert not context.dynamic
    context = opened(toy["features"])
    context.aggregator = AnyOrder()
    assert context.dynamic
    assert not Aggregator.any_order


def test_a_rank_that_is_alone_draws_all_in_order(toy):
    context = opened(toy["features"])
    chosen = np.array([1, 4, 6])
    costs = context.federation.training_costs
    assert list(context.draw(chosen, costs)) == [1, 4, 6]


class Undeclared:
    """A reduction of somebody's own that does not say whether order matters."""

    bytes_per_element = 8


@pytest.mark.parametrize(
    ("changes", "dynamic"),
    [
        ({}, True),
        ({"scheduling": "static"}, False),
        ({"aggregator": {"name": "float32"}}, False),
    ],
)
def test_only_sums_in_any_order_let_participants_move(toy, changes, dynamic):
    session = opened(toy["features"], **changes)
    assert session.dynamic == dynamic
    session.aggregator = Undeclared()
    assert not session.dynamic


def test_the_largest_are_drawn_first(toy):
    class Turns:
        def take(self, count):
            return range(count)

    alone = opened(toy["odd"])
    shared = Storage(tickets=Turns(), nodes=(0,))
    session = dataclasses.replace(alone, storage=shared)
    counts = session.federation.manifest.counts["train"]
    chosen = np.array([0, 2, 3, 5, 6])
    drawn = list(session.draw(chosen, counts))
    assert sorted(drawn) == chosen.tolist()
    assert counts[drawn].tolist() == sorted(counts[chosen].tolist(), reverse=True)
    assert drawn != chosen.tolist()
    assert list(alone.draw(chosen, counts)) == chosen.tolist()
