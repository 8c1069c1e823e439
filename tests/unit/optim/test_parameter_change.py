"""The rule of FedSelect for tensors, against a literal reading."""

import numpy as np
import pytest
import torch

from fedapm_mpi.optim.parameter_change import personal_tensors, selected_shares

TENSORS = {"a": slice(0, 7), "b": slice(7, 9), "c": slice(9, 40)}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 1.0])
def test_shares_are_those_above_the_percentile(fraction):
    change = torch.randn(40, generator=torch.Generator().manual_seed(0))
    found = selected_shares(change, TENSORS, fraction)
    size = np.abs(change.numpy())
    cutoff = np.sort(size)[::-1][round(fraction * 40) - 1]
    for name, place in TENSORS.items():
        assert found[name] == pytest.approx(float((size[place] >= cutoff).mean()))


def test_equal_changes_take_the_first():
    found = selected_shares(torch.ones(40), TENSORS, 0.2)
    assert found == {"a": 1.0, "b": 0.5, "c": 0.0}


def test_one_entry_is_selected_at_least():
    found = selected_shares(torch.arange(40.0), TENSORS, 1e-6)
    assert found["c"] == pytest.approx(1 / 31)
    assert found["a"] == found["b"] == 0


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.1, {"b"}),  # c, with most, does not fit, nor does a
        (0.25, {"a", "b"}),
        (0.8, {"c"}),
        (0.85, {"c", "b"}),
        (1.0, {"a", "b", "c"}),  # of d nothing is selected
        (0.01, set()),
    ],
)
def test_tensors_are_taken_by_share_as_long_as_they_fit(fraction, expected):
    shares = {"a": 0.2, "b": 0.25, "c": 0.3, "d": 0.0}
    sizes = {"a": 7, "b": 2, "c": 31, "d": 0}
    assert personal_tensors(shares, sizes, fraction) == expected


def test_equal_shares_are_taken_in_the_order_of_the_model():
    shares = dict.fromkeys("abc", 0.5)
    assert personal_tensors(shares, dict.fromkeys("abc", 1), 0.67) == {"a", "b"}
