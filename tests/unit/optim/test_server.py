"""Server optimizers against their formulas."""

import numpy as np
import pytest

from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from tests.support.oracles.in_memory_federation import Federation
from tests.support.oracles.quadratic import DIM_U, Quadratic
from tests.support.server_steps import (
    EPOCHS,
    FEDALT,
    MAKERS,
    close,
    each_maker,
    each_weights,
    rounds,
)


@each_maker
@each_weights
@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.9), (0.3, 0.5)])
def test_momentum(make, weights, lr, momentum):
    """Undamped: m = beta m + change, u = u + eta m."""
    u, m = Quadratic(weights).start_u.numpy(), np.zeros(DIM_U)
    optimizer = {"name": "sgd", "lr": lr, "momentum": momentum}
    for federation, change in rounds(make, weights, server_optimizer=optimizer):
        m = momentum * m + change
        u = u + lr * m
        close(federation.server, [u, m])


ADAM = {
    "default": {},
    "given": {"lr": 0.1, "beta1": 0.7, "beta2": 0.95, "eps": 0.01},
    "no first moment": {"lr": 0.02, "beta1": 0.0},
    "no second moment": {"lr": 0.02, "beta2": 0.0},
}


@each_maker
@each_weights
@pytest.mark.parametrize("options", ADAM.values(), ids=ADAM)
def test_adam(make, weights, options):
    """Of Reddi et al.: v starts at tau squared, and no moment is corrected."""
    beta1, beta2 = options.get("beta1", 0.9), options.get("beta2", 0.99)
    eta, tau = options.get("lr", 1.0), options.get("eps", 0.001)
    u, m, v = Quadratic(weights).start_u.numpy(), np.zeros(DIM_U), tau**2
    optimizer = {"name": "adam"} | options
    for federation, change in rounds(make, weights, server_optimizer=optimizer):
        m = beta1 * m + (1 - beta1) * change
        v = beta2 * v + (1 - beta2) * change**2
        u = u + eta * m / (np.sqrt(v) + tau)
        close(federation.server, [u, m, v])
        assert all(sent.shape == (1, DIM_U) for sent in federation.increment.values())


@pytest.mark.parametrize("chosen", [[0], []])
def test_adam_begins_at_tau_squared_if_the_first_round_was_without_weight(chosen):
    weights = (0.0, 0.2, 0.2, 0.2, 0.2, 0.2)
    algorithm = MAKERS["fedalt"](server_optimizer={"name": "adam"})
    federation = Federation(algorithm, Quadratic(weights))
    federation.round(chosen)
    u = federation.consensus.numpy().copy()
    federation.round([1, 3])
    change = (federation.stack("shared").numpy()[[1, 3]] - u).mean(0)
    close(federation.server[2], 0.99 * 1e-6 + 0.01 * change**2)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ({"name": "adam", "momentum": 0.5}, "'adam' has no momentum"),
        ({"name": "sgd", "beta1": 0.5}, "'sgd' has no beta1"),
        ({"beta2": 0.5}, "'sgd' has no beta2"),
        ({"eps": 0.5}, "'sgd' has no eps"),
        ({"name": "adagrad"}, "server_optimizer.name"),
        ({"lr": 0}, "server_optimizer.lr: input should be greater than 0"),
        ({"momentum": 1}, "server_optimizer.momentum: input should be less than 1"),
        ({"name": "adam", "beta1": -0.1}, "server_optimizer.beta1: input should be"),
        ({"name": "adam", "beta2": 1}, "server_optimizer.beta2: input should be less"),
        ({"name": "adam", "eps": 0}, "server_optimizer.eps: input should be greater"),
        ({"momentun": 0.5}, "did you mean 'momentum'"),
    ],
)
def test_options_out_of_range_or_of_another_optimiser_are_refused(optimizer, words):
    work = {"personal_work": EPOCHS, "shared_work": EPOCHS}
    options = {"name": "fedalt", "server_optimizer": optimizer} | FEDALT | work
    tree = {"data": "somewhere", "rounds": 1, "model": "mlp", "algorithm": options}
    with pytest.raises(ConfigError) as caught:
        validate(tree | {"split": {"personal": ["head.*"]}}, "test")
    assert words in str(caught.value)
