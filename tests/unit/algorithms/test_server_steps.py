"""What an algorithm's server makes of an entry does not depend on other entries.

The server's array is updated section by section where clients hold different parts.
"""

import pytest
import torch

from fedapm_mpi.algorithms import RoundInfo, algorithms
from fedapm_mpi.federation.builder import build_plugin
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import FEDAPM, FEDSIM

D, CUT, ROUNDS = 7, 3, 3
OPTIONS = {
    "fedapm": FEDAPM,
    "fedapm-participants": FEDAPM | {"server_average": "participants"},
    "fedapm-share": FEDAPM | {"server_average": "participants", "dual_share": 0.3},
    "fedapm-balance": FEDAPM | {"residual_balancing": {"ratio": 2.0}},
    "fedsim": {"name": "fedsim"} | FEDSIM,
    "fedavg": {"name": "fedavg"} | FEDSIM,
    "local": {"name": "local"} | FEDSIM,
    **SHARING_ALL,
    **SHARING_PART,
}


def rounds(algorithm, cuts):
    """Return the server's array after some rounds, stepped by these columns."""
    generator = torch.Generator().manual_seed(1)
    height = algorithm.rows + algorithm.server_memory_rows()
    server = torch.zeros(height, D, dtype=torch.float64)
    server[0] = torch.randn(D, generator=generator, dtype=torch.float64)
    for t in range(ROUNDS):
        total = torch.randn(algorithm.rows, D, generator=generator, dtype=torch.float64)
        facts = RoundInfo(t, 5, 2, 0.3, (4.0 + t, 5.0 + t), 0.8)
        for cut in cuts:
            algorithm.server_step(server[:, cut], total[:, cut], facts)
    return server


@pytest.mark.parametrize("name", OPTIONS)
def test_entry_by_entry(name):
    algorithm = build_plugin(algorithms, OPTIONS[name])
    whole = rounds(algorithm, [slice(None)])
    assert torch.equal(rounds(algorithm, [slice(CUT), slice(CUT, None)]), whole)
    if name != "local":
        start = rounds(algorithm, [])
        assert not torch.equal(whole[0], start[0]), "the control: something moved"


def test_every_algorithm_is_asked():
    assert {options["name"] for options in OPTIONS.values()} == set(algorithms.names())
