"""States of clients: untouched ones cost nothing, and every change counts."""

import pytest
import torch

from fedapm_mpi.storage.client_states import ClientStateStore
from fedapm_mpi.storage.digest import run_digest, state_digest
from fedapm_mpi.storage.tensor_store import LocalStore


def state(value: float) -> dict[str, torch.Tensor]:
    return {
        "shared": torch.full((3,), value),
        "personal": torch.full((2,), -value),
        "counters": torch.tensor([7]),
    }


def table(hosted) -> ClientStateStore:
    return ClientStateStore(hosted, [lambda: state(0.0)], [0] * 4, LocalStore())


def test_an_untouched_client_costs_nothing_and_counts_in_the_digest():
    t = table([3, 1, 2])
    assert t.hosted == [1, 2, 3]
    assert t.materialized() == {}
    t.checkout(2)["shared"].fill_(5.0)
    assert list(t.materialized()) == [2]
    assert (t.peek(1)["shared"] == 0).all()
    digests = t.digests()
    assert digests.shape == (3, 32)
    assert (digests[0] == digests[2]).all()
    assert digests[1].tobytes() == state_digest(t.peek(2))


@pytest.mark.parametrize("change", ["value", "name", "dtype", "shape", "client"])
def test_the_digest_sees_every_change(change):
    def digest(harmed: bool) -> str:
        victim = state(0.0)
        victim["shared"][1] = 1.0
        if harmed and change == "value":
            victim["personal"][0] = 1e-30
        elif harmed and change == "name":
            victim["personals"] = victim.pop("personal")
        elif harmed and change == "dtype":
            victim["counters"] = victim["counters"].int()
        elif harmed and change == "shape":
            victim["shared"] = victim["shared"][None]
        t = table([0, 1])
        t.restore({int(harmed and change == "client"): victim})
        return run_digest([torch.zeros(1, 3, dtype=torch.float64)], t.digests())

    assert digest(harmed=False) == digest(harmed=False)
    assert digest(harmed=True) != digest(harmed=False)
