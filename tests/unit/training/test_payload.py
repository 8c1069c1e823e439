"""Where the flat vectors of a round hold what."""

import numpy as np
import pytest
import torch

from fedapm_mpi.training.payload import PayloadLayout


def layout(rows=2, d=3, buffers=4, dual=True) -> PayloadLayout:
    return PayloadLayout(rows, d, buffers, dual)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("buffers", [0, 4])
@pytest.mark.parametrize("dual", [False, True])
def test_parts_lie_one_after_the_other_and_fill_the_vector(rows, buffers, dual):
    one = layout(rows, 5, buffers, dual)
    vector = torch.arange(one.up_length)
    parts = [one.model(vector).reshape(-1), one.buffers(vector)]
    assert torch.equal(torch.cat([*parts, one.dual_change(vector)]), vector)
    assert torch.equal(torch.cat(parts), vector[: one.down_length])
    assert torch.equal(one.shared(vector), one.model(vector)[0])


def test_parts_are_views_of_tensors_and_of_arrays():
    one = layout()
    tensor, array = torch.zeros(one.up_length), np.zeros(one.up_length)
    for vector in (tensor, array):
        one.model(vector)[1, 2] = 1
        one.buffers(vector)[0] = 2
        one.dual_change(vector)[-1] = 3
        found = vector.tolist()
        assert (found[5], found[6], found[-1]) == (1, 2, 3)


def test_rows_that_the_server_keeps_are_not_sent():
    one, out = layout(dual=False), torch.zeros(10)
    one.pack(torch.arange(9.0).view(3, 3), torch.arange(10.0, 14), out)
    assert out.tolist() == [*range(6), *range(10, 14)]


def test_an_update_has_what_the_layout_has():
    model, buffers, dual = torch.ones(2, 3), torch.full((4,), 2.0), torch.zeros(3)
    whole = layout().pack_update(model, buffers, dual)
    assert whole.tolist() == [1] * 6 + [2] * 4 + [0] * 3
    plain = layout(buffers=0, dual=False).pack_update(model, None, None)
    assert plain.tolist() == [1] * 6


def test_the_first_broadcast_is_the_initial_model_with_zeros_in_further_rows():
    found = layout(buffers=2).initial(torch.tensor([1.0, 2, 3]), torch.arange(9.0))
    assert found.tolist() == [1, 2, 3, 0, 0, 0, 0, 1]
    kept = layout(rows=1, buffers=0).initial(torch.ones(3), torch.arange(9.0))
    assert kept.tolist() == [1, 1, 1]
