"""Which tensors a model may have, and what a run's dtype makes of them."""

import pytest
import torch
from torch import nn

from fedapm_mpi.engine.model_tensors import cast, check_distinct, check_tensors
from fedapm_mpi.errors import ConfigError


def model(**tensors):
    """Return a module with a trained weight, and more parameters and buffers."""
    module = nn.Linear(2, 1)
    for name, tensor in tensors.items():
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(name, tensor)
        else:
            module.register_buffer(name, tensor)
    return module


def test_a_usual_model_is_taken():
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    for module in (model(), model(seen=torch.tensor(1)), tied):
        check_tensors(module)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.LazyLinear(2), "'weight' has no shape yet"),
        (nn.Linear(2, 1, device="meta"), "'weight' has no values"),
        (model(b=torch.eye(2).to_sparse()), "buffer 'b' is sparse (sparse_coo)"),
        (model(w=nn.Parameter(torch.ones(1) * 1j)), "'w' is complex"),
        (nn.Identity(), "the model has no parameter, so"),
        (nn.Linear(2, 1).requires_grad_(False), "no trained parameter (all are"),
    ],
)  # fmt: skip
def test_what_a_clients_state_cannot_hold_is_refused(module, words):
    with pytest.raises(ConfigError) as caught:
        check_tensors(module)
    assert words in str(caught.value)


def test_a_frozen_complex_parameter_is_taken():
    check_tensors(model(w=nn.Parameter(torch.ones(1) * 1j, requires_grad=False)))


def test_parameters_that_share_memory_are_refused():
    whole = torch.zeros(6)
    apart = model(a=nn.Parameter(whole[:3]), b=nn.Parameter(whole[3:]))
    check_tensors(apart)
    overlapping = model(a=nn.Parameter(whole[:4]), b=nn.Parameter(whole[3:]))
    with pytest.raises(ConfigError, match="'a' and 'b' share memory"):
        check_tensors(overlapping)


def test_groups_must_not_share_a_module():
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    check_distinct([one, other], ["group 1", "group 2"])
    both = nn.Sequential(one, other)
    with pytest.raises(ConfigError, match=r"group 1 and group 2 are one .*'0\.weight'"):
        check_distinct([one, both], ["group 1", "group 2"])


@pytest.mark.parametrize(
    ("dtype", "fitting"),
    [(torch.float32, torch.complex64), (torch.float64, torch.complex128)],
)
def test_a_cast_keeps_integers_and_what_is_complex(dtype, fitting):
    module = model(
        seen=torch.tensor(3), on=torch.tensor(True), phase=torch.tensor([1 + 2j]).conj()
    )
    cast(module, dtype)
    assert module.weight.dtype == dtype
    assert module.phase.dtype == fitting
    assert module.phase.tolist() == [1 - 2j]
    assert not module.phase.is_conj()
    assert (module.seen.dtype, module.on.dtype) == (torch.int64, torch.bool)
