"""What a server makes of its clients' models, against the formulas in numpy.

The clients' work is not looked at: the models that participants end with are read from
their state, and all that follows from them is computed a second time.
"""

from itertools import product

import numpy as np
import pytest
import torch

from tests.support.oracles.in_memory_federation import Federation
from tests.support.oracles.quadratic import Quadratic
from tests.support.server_steps import (
    MAKERS,
    ROUNDS,
    close,
    each_maker,
    each_weights,
    rounds,
)


@each_maker
@each_weights
@pytest.mark.parametrize("optimizer", [{}, {"lr": 0.6}, {"lr": 1.0, "momentum": 0.0}])
def test_a_step_along_the_change_and_nothing_kept(make, weights, optimizer):
    u = Quadratic(weights).start_u.numpy()
    for federation, change in rounds(make, weights, server_optimizer=optimizer):
        u = u + optimizer.get("lr", 1.0) * change
        close(federation.server, [u])


@each_maker
@each_weights
def test_the_mean_over_all_counts_the_absent_with_what_they_last_had(make, weights):
    quadratic = Quadratic(weights)
    last = np.tile(quadratic.start_u.numpy(), (6, 1))
    federation = Federation(make(server_average="all"), quadratic)
    for chosen in ROUNDS:
        federation.round(chosen)
        for i in chosen:
            last[i] = federation.clients[i]["shared"].numpy()
        close(federation.server, [np.array(weights) @ last])
        close(federation.stack("shared"), last)


@each_maker
@each_weights
def test_a_participant_starts_at_the_server_for_any_set_of_the_mean(make, weights):
    """From the same broadcast and personal blocks, the same models come back."""
    federations = [
        Federation(make(server_average=average), Quadratic(weights))
        for average in ("participants", "all")
    ]
    for chosen in ROUNDS:
        federations[1].server[0] = federations[0].consensus
        for federation in federations:
            federation.round(chosen)
        ends = [federation.stack("shared") for federation in federations]
        assert torch.equal(*ends)


@each_maker
@each_weights
def test_with_everyone_both_means_are_one(make, weights):
    ours, other = (
        Federation(make(server_average=average), Quadratic(weights))
        for average in ("participants", "all")
    )
    for _ in range(5):
        ours.round(range(6))
        other.round(range(6))
        close(ours.server, other.server)


OPTIMIZERS = ({}, {"momentum": 0.5}, {"name": "adam"})
CASES = [*product(["participants"], OPTIMIZERS), ("all", {})]


@each_maker
@pytest.mark.parametrize(("average", "optimizer"), CASES)
def test_a_round_without_weight_leaves_the_server_alone(make, average, optimizer):
    weights = (0.0, 0.2, 0.2, 0.2, 0.2, 0.2)
    algorithm = make(server_average=average, server_optimizer=optimizer)
    federation = Federation(algorithm, Quadratic(weights))
    federation.run(3)
    for chosen in ([0], []):
        server = federation.server.clone()
        federation.round(chosen)
        assert torch.equal(federation.server, server)


@pytest.mark.parametrize(
    "optimizer", [{"lr": 0.5}, {"momentum": 0.5}, {"name": "adam"}]
)
def test_an_optimiser_of_a_mean_of_models_is_refused(optimizer):
    with pytest.raises(ValueError, match="not a change to step along"):
        MAKERS["fedsim"](server_average="all", server_optimizer=optimizer)
