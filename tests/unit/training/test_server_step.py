"""The server's step: the algorithm's, and the record of it."""

import numpy as np
import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.context import TrainingContext, open_context
from fedapm_mpi.training.server import ServerState, restore_server
from fedapm_mpi.training.server_step import server_step
from tests.support.processes.cli_runs import FEDAPM, experiment

CHOSEN = np.array([1, 4])


def opened(data, **changes) -> tuple[TrainingContext, ServerState]:
    context = open_context(validate(experiment(data, **changes), "test"), Serial())
    return context, restore_server(context, None)


def test_u_moves_by_the_sum_over_all_clients(toy):
    context, server = opened(toy["features"])
    before = server.rows[0].clone()
    total = np.linspace(-1, 1, context.payload.up_length)
    record = server_step(context, server, 0, CHOSEN, total)
    moved = torch.from_numpy(total) / context.federation.num_clients
    torch.testing.assert_close(server.rows[0], before + moved)
    torch.testing.assert_close(server.change, moved)
    assert record["participants"] == "1,4"
    assert (record["num_participants"], record["coverage"]) == (2, 2)
    assert server.seen.nonzero()[0].tolist() == [1, 4]


def test_the_method_is_told_the_factor_of_the_step_size(toy, monkeypatch):
    schedule = {"name": "exponential", "gamma": 0.5, "personal": "constant"}
    context, server = opened(toy["features"], schedule=schedule)
    given = []
    monkeypatch.setattr(
        type(context.algorithm),
        "server_step",
        lambda self, rows, total, facts: given.append(facts.step_factor),
    )
    for t in range(3):
        server_step(context, server, t, CHOSEN, np.zeros(context.payload.up_length))
    assert given == [1.0, 0.5, 0.25]
    context, server = opened(toy["features"])
    server_step(context, server, 2, CHOSEN, np.zeros(context.payload.up_length))
    assert given[-1] == 1.0


def test_buffers_are_the_mean_of_the_participants(toy):
    context, server = opened(
        toy["features"],
        model={"name": "tests.support.plugins.user_parts:batch_norm"},
        split={"personal": ["3.*"]},
        buffers="mean",
    )
    total = np.zeros(context.payload.up_length)
    context.payload.buffers(total)[:] = 3.0
    before = server.buffers.clone()
    server_step(context, server, 0, CHOSEN, total)
    torch.testing.assert_close(server.buffers, before + 1.5)


def test_no_participant_changes_nothing(toy):
    context, server = opened(toy["features"])
    before = server.rows.clone()
    none = np.zeros(0, np.int64)
    record = server_step(context, server, 3, none, np.zeros(context.payload.up_length))
    assert torch.equal(server.rows, before)
    assert record["num_participants"] == 0
    assert record["round"] == 4


def test_the_sum_of_duals_is_followed(toy):
    context, server = opened(toy["features"], diagnostics={"dual_sum": True})
    total = np.zeros(context.payload.up_length)
    context.payload.dual_change(total)[0] = 4.0
    assert server_step(context, server, 0, CHOSEN, total)["dual_sum"] == 4.0
    assert server_step(context, server, 1, CHOSEN, total)["dual_sum"] == 8.0


@pytest.mark.parametrize("balanced", [False, True])
def test_penalties_count_in_units_of_the_present_one(toy, balanced, monkeypatch):
    extra = {"residual_balancing": {"every": 1}} if balanced else {}
    context, server = opened(toy["features"], algorithm=FEDAPM | extra)
    server.rho = 2 * FEDAPM["rho"]
    seen = []
    kind = type(context.algorithm)
    monkeypatch.setattr(kind, "server_step", lambda self, s, t, r: seen.append(r))
    server_step(context, server, 0, CHOSEN, np.zeros(context.payload.up_length))
    m = context.federation.num_clients
    expected = (m / 2, (m - 2) / 2 + 2) if balanced else (m, m)
    assert seen[0].penalties == pytest.approx(expected)
    assert seen[0].weight_total == 1.0


@pytest.mark.parametrize("balanced", [False, True])
def test_penalties_of_a_clients_own_loss_count_by_weight(toy, balanced, monkeypatch):
    extra = {"residual_balancing": {"every": 1}} if balanced else {}
    context, server = opened(
        toy["features"],
        algorithm=FEDAPM | extra | {"units": "client"},
        client_weights="samples",
    )
    server.rho = 2 * FEDAPM["rho"]
    seen = []
    kind = type(context.algorithm)
    monkeypatch.setattr(kind, "server_step", lambda self, s, t, r: seen.append(r))
    server_step(context, server, 0, CHOSEN, np.zeros(context.payload.up_length))
    counts = context.federation.manifest.counts["train"]
    here = counts[CHOSEN].sum() / counts.sum()
    expected = (0.5, 0.5 * (1 - here) + here) if balanced else (1, 1)
    assert seen[0].penalties == pytest.approx(expected)
    assert seen[0].weight_sum == pytest.approx(here)
