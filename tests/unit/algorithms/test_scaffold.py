"""FedProx, SCAFFOLD and FedDyn against their papers' formulas, written out in numpy."""

from functools import cache

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.algorithms.feddyn import FedDyn
from fedapm_mpi.algorithms.fedprox import FedProx
from fedapm_mpi.algorithms.scaffold import Scaffold
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from tests.support.oracles.drift import (
    DECAY,
    LOCAL,
    ROUNDS,
    close,
    each_case,
    each_local,
    each_weights,
    full,
    mean,
)
from tests.support.oracles.in_memory_federation import UNEVEN, Federation, snapshot
from tests.support.oracles.least_squares import EMPTY, SIZES, LeastSquares
from tests.support.oracles.quadratic import DIM_U

each_control = pytest.mark.parametrize("control_variate", ["gradient", "steps"])


@each_local
@each_weights
@each_control
@pytest.mark.parametrize("lr_server", [1.0, 0.6])
def test_scaffold_does_what_its_paper_says(local, weights, control_variate, lr_server):
    clients, decay = LeastSquares(weights), local.get("weight_decay", 0.0)
    algorithm = Scaffold(control_variate=control_variate, lr_server=lr_server, **local)
    federation = Federation(algorithm, clients)
    x, c = clients.start_u.numpy(), np.zeros(DIM_U)
    controls = np.zeros((6, DIM_U))
    for chosen in ROUNDS:
        federation.round(chosen)
        ends, change_c = {}, np.zeros(DIM_U)
        for i in chosen:
            new, correction = controls[i], c - controls[i]
            ends[i], steps = clients.descend(i, x, lambda _, d=correction: d, **local)
            close(federation.clients[i]["shared"], ends[i])
            if steps and control_variate == "gradient":
                new = clients.gradient(i, x, decay)
            elif steps:
                new = controls[i] - c + (x - ends[i]) / (steps * local["lr"])
            change_c += clients.alpha[i] * (new - controls[i])
            controls[i] = new
            assert federation.increment[i].shape == (2, DIM_U)
        x = x + lr_server * (mean(clients, chosen, ends) - x)
        c = c + change_c
        close(federation.server, [x, c])
        close(federation.stack("control"), controls)


@cache
def where_fedavg_stalls(weights):
    """Return its shared model after as many rounds."""
    fedavg = Federation(FedAvg(**full(4)), LeastSquares(weights))
    fedavg.run(130)
    return fedavg.consensus.numpy()


@each_case
@each_control
def test_scaffold_reaches_the_minimiser_where_fedavg_stalls(
    weights, participation, control_variate
):
    clients = LeastSquares(weights)
    goal = clients.minimiser(DECAY)
    algorithm = Scaffold(control_variate=control_variate, **full(4))
    federation = Federation(algorithm, clients)
    federation.run(130, participation)
    close(federation.consensus, goal, atol=1e-11)
    slopes = [clients.gradient(i, goal, DECAY if n else 0) for i, n in enumerate(SIZES)]
    close(federation.stack("control"), slopes, atol=1e-10)
    assert np.linalg.norm(where_fedavg_stalls(weights) - goal) > 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@each_control
def test_scaffolds_c_is_the_weighted_sum_of_all_clients(control_variate, dtype):
    """In single precision too: what is sent is the change of what is stored."""
    algorithm = Scaffold(control_variate=control_variate, **LOCAL["steps"])
    federation = Federation(algorithm, LeastSquares(UNEVEN, dtype=dtype))
    for _ in federation.rounds(40, 0.5):
        controls = federation.stack("control")
        assert controls.dtype == dtype
        close(federation.server[1], np.array(UNEVEN) @ controls.numpy(), atol=1e-14)


@each_control
def test_scaffold_with_one_full_step_is_gradient_descent(control_variate):
    """If everybody has samples: who takes no step is not corrected either."""
    clients = LeastSquares(UNEVEN, sizes=(4, 1, 2, 3, 7, 2))
    algorithm = Scaffold(control_variate=control_variate, **full(1))
    federation = Federation(algorithm, clients)
    w = clients.start_u.numpy()
    for _ in range(20):
        federation.round(range(6))
        w = w - 0.5 * clients.weighted(lambda i, w=w: clients.gradient(i, w, DECAY))
        close(federation.consensus, w)


@each_local
def test_scaffolds_first_round_is_fedavgs_bit_for_bit(local):
    ours = Federation(Scaffold(**local), LeastSquares(UNEVEN))
    other = Federation(FedAvg(**local), LeastSquares(UNEVEN))
    for same in (True, False):
        ours.round([0, 2, 3])
        other.round([0, 2, 3])
        assert torch.equal(ours.consensus, other.consensus) == same


OPTIONS = {"fedprox": {"mu": 0.7}, "scaffold": {}, "feddyn": {"penalty": 0.4}}
CLASSES = {"fedprox": FedProx, "scaffold": Scaffold, "feddyn": FedDyn}


@pytest.mark.parametrize("name", CLASSES)
def test_who_sits_out_keeps_every_bit_and_who_weighs_nothing_changes_nothing(name):
    algorithm = CLASSES[name](**OPTIONS[name], **LOCAL["steps"])
    assert algorithm.sharing == "all"
    federation = Federation(algorithm, LeastSquares((0.2, 0.2, 0.0, 0.2, 0.2, 0.2)))
    for chosen in ROUNDS:
        before, server = snapshot(federation), federation.server.clone()
        federation.round(chosen)
        for i in set(range(6)) - set(chosen):
            for key, value in federation.clients[i].items():
                assert torch.equal(value, before[i][key])
        assert torch.equal(federation.server, server) == (chosen == [EMPTY])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "fedprox", "mu": -1}, "mu: input should be greater than or equal"),
        ({"name": "scaffold", "lr_server": 0}, "lr_server: input should be greater"),
        ({"name": "scaffold", "control_variate": "both"}, "control_variate"),
        ({"name": "scaffold", "server_average": "all"}, "server_average: unknown key"),
        ({"name": "feddyn", "penalty": 0}, "penalty: input should be greater than 0"),
        ({"name": "feddyn", "penalty": 1, "rho": 1}, "rho: unknown key"),
    ],
)
def test_refused_options(options, words):
    local = {"lr": 0.1, "batch_size": 2, "work": {"epochs": 1}}
    tree = {"data": "somewhere", "rounds": 1, "model": "mlp"}
    with pytest.raises(ConfigError) as caught:
        validate(tree | {"algorithm": local | options}, "test")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", CLASSES)
def test_a_tolerance_is_refused(name):
    work = LocalBudget(xi=0.1, decay=0.5, max_epochs=2)
    with pytest.raises(ValueError, match="only fedapm"):
        CLASSES[name](**OPTIONS[name] | LOCAL["steps"] | {"work": work})
