"""What a participant's local work leaves behind, on one process."""

import numpy as np
import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.client import train_clients
from fedapm_mpi.training.context import TrainingContext, open_context
from tests.support.processes.cli_runs import experiment


def session(data, **changes) -> TrainingContext:
    values = experiment(
        data,
        model={"name": "user_parts:batch_norm"},
        split={"personal": ["3.*"]},
        **changes,
    )
    return open_context(validate(values, "test"), Serial())


def initial(s: TrainingContext):
    (group,) = s.groups.members
    return group.initial


def work(s: TrainingContext, t: int, *clients: int):
    message = torch.zeros(s.payload.down_length, dtype=s.dtype)
    message[: s.payload.shared_length] = initial(s)["shared"]
    if s.payload.buffer_length:
        message[s.payload.shared_length :] = initial(s)["buffers"]
    return train_clients(s, t, np.array(clients), clients, message)


def steps_of(s: TrainingContext, client: int) -> int:
    size = s.algorithm.batch_size
    return 2 * -(-int(s.federation.manifest.counts["train"][client]) // size)


@pytest.mark.parametrize("buffers", ["local", "mean"])
def test_counters_count_every_step_of_every_round(toy, buffers):
    s = session(toy["features"], buffers=buffers)
    work(s, 0, 1, 2)
    work(s, 1, 1)
    assert s.table.peek(1)["counters"].tolist() == [2 * steps_of(s, 1)]
    assert s.table.peek(2)["counters"].tolist() == [steps_of(s, 2)]
    assert s.table.peek(0)["counters"].tolist() == [0]


def test_statistics_stay_with_their_client(toy):
    s = session(toy["features"])
    work(s, 0, 1)
    moved = s.table.peek(1)["buffers"].clone()
    assert not torch.equal(moved, initial(s)["buffers"])
    work(s, 0, 2)  # on the same model
    assert torch.equal(s.table.peek(1)["buffers"], moved)
    assert torch.equal(s.table.peek(0)["buffers"], initial(s)["buffers"])


def test_averaged_statistics_ride_behind_the_increment(toy):
    s = session(toy["features"], buffers="mean")
    local = work(s, 0, 1)
    (increment,) = local.updates
    change = s.table.peek(1)["buffers"].double() - initial(s)["buffers"].double()
    assert len(increment) == s.payload.shared_length + len(change)
    np.testing.assert_array_equal(increment[s.payload.shared_length :], change.numpy())


def test_those_who_sit_out_are_bit_identical_and_cost_nothing(toy):
    s = session(toy["features"])
    work(s, 0, 1)
    before = {name: tensor.clone() for name, tensor in s.table.peek(1).items()}
    local = work(s, 1, 0, 3)
    assert len(local.updates) == 2
    assert sorted(s.table.materialized()) == [0, 1, 3]
    for name, tensor in s.table.peek(1).items():
        assert torch.equal(tensor, before[name])


def test_the_largest_magnitude_is_that_of_all_increments(toy):
    local = work(session(toy["features"]), 0, 0, 1, 2)
    assert local.error is None
    assert local.largest == max(np.abs(x).max() for x in local.updates)


def test_an_update_that_is_not_finite_names_client_and_round(toy):
    s = session(toy["features"])
    s.table.checkout(2)["dual"].fill_(float("inf"))
    local = work(s, 4, 2)
    assert "client 2" in str(local.error)
    assert "round 5" in str(local.error)
