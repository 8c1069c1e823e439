"""The conditions of FedAPM's theory on its constants."""

from dataclasses import replace

import pytest

from fedapm_mpi.optim.fedapm_theory import Lipschitz, unmet_conditions
from tests.support.oracles.in_memory_federation import (
    UNEVEN,
    descending,
)
from tests.support.oracles.quadratic import Quadratic


def constants(quadratic):
    return Lipschitz(u=quadratic.l_u, v=quadratic.l_v, uv=quadratic.l_uv)


@pytest.mark.parametrize("weights", [(1 / 6,) * 6, UNEVEN], ids=["uniform", "uneven"])
def test_conditions_of_descent_leave_but_that_of_stationarity(weights):
    """3 alpha L_u is less than 2 L_u where there are many clients."""
    quadratic = Quadratic(weights)
    rho, sigma = quadratic.conditions()
    slack = 1 + 1e-12
    (only,) = unmet_conditions(
        rho * slack, sigma * slack**2, weights, constants(quadratic)
    )
    assert "2 L_u" in only
    rho = 2 * quadratic.l_u * slack
    assert (
        unmet_conditions(rho, 8 / 15 * rho * slack, weights, constants(quadratic)) == []
    )


MET = {"rho": 6.0, "sigma": 4.0, "u": 1.0, "v": 2.0, "uv": 1.0}
WEIGHTS = (0.2, 0.5, 0.3)
VIOLATIONS = {
    "3 alpha": [{"uv": 4.01}],
    "15/8": [{"sigma": 3.19}],
    "alpha L_v": [{"v": 8.01}],
    "2 L_u": [{"u": 3.01}],
}
JUST_MET = [{"uv": 3.99}, {"sigma": 3.21}, {"v": 7.99}, {"u": 2.99}]


def unmet(values):
    known = Lipschitz(**{name: values[name] for name in ("u", "v", "uv")})
    return unmet_conditions(values["rho"], values["sigma"], WEIGHTS, known)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_condition_in_turn(name):
    for changed in VIOLATIONS[name]:
        (sentence,) = unmet(MET | changed)
        assert name in sentence


@pytest.mark.parametrize("changed", JUST_MET, ids=lambda changed: next(iter(changed)))
def test_conditions_just_met(changed):
    assert unmet(MET | changed) == []


def test_a_large_l_u_fails_descent_and_stationarity():
    sentences = unmet(MET | {"u": 4.01})
    assert ["3 alpha" in text or "2 L_u" in text for text in sentences] == [True, True]


def test_the_sigma_that_is_suggested_will_do():
    (sentence,) = unmet(MET | {"sigma": 1.5})
    suggested = float(sentence.split("set sigma to ")[1].split()[0])
    assert unmet(MET | {"sigma": suggested}) == []


def test_an_algorithm_warns_only_if_given_the_constants():
    quadratic = Quadratic()
    algorithm = descending(0.1, sigma=0.01)
    weights = quadratic.weights.tolist()
    assert algorithm.warnings(weights) == []
    informed = replace(algorithm, lipschitz=constants(quadratic))
    assert informed.warnings(weights) == unmet_conditions(
        0.1, 0.01, weights, constants(quadratic)
    )
    assert len(informed.warnings(weights)) == 4
