import pytest

from fedapm_mpi.algorithms.iceadmm import ICEADMM


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_curvature_is_of_a_clients_own_loss(weight):
    algorithm = ICEADMM(rho=0.5, curvature=2.0)
    assert algorithm.step_size(weight) == 1 / (0.5 + weight * 2.0)
