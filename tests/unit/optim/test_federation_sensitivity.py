"""The rule of PLayer-FL, against a literal reading of its equation."""

import pytest
import torch
from torch import nn

from fedapm_mpi.optim.federation_sensitivity import (
    federation_sensitivity,
    layer_importance,
    shared_layers,
)


def test_importance_is_that_of_the_equation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
    x, y = torch.randn(20, 3), torch.randint(4, (20,))
    nn.functional.cross_entropy(model(x), y).backward()
    vector = torch.cat([p.detach().flatten() for p in model.parameters()])
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    layers = {"0": [slice(0, 15)], "2": [slice(20, 40)]}
    found = layer_importance(vector, gradient, layers)
    literal = {}
    for name in layers:
        weight = model[int(name)].weight.detach()
        slope = model[int(name)].weight.grad
        total = 0.0
        for row in range(weight.shape[0]):
            for column in range(weight.shape[1]):
                total += float(weight[row, column] * slope[row, column]) ** 2
        literal[name] = total / weight.numel()
    assert found == pytest.approx(literal, rel=1e-6)


def test_a_layer_of_several_tensors_is_their_mean():
    parameters, gradient = torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 1, 2, 0])
    layers = {"a": [slice(0, 1), slice(2, 4)], "b": [slice(1, 2)]}
    assert layer_importance(parameters, gradient, layers) == {"a": 37 / 3, "b": 4.0}


def test_sensitivity_is_the_sum_up_to_a_layer():
    assert federation_sensitivity([1.0, 0.5, 3.0]) == [1.0, 1.5, 4.5]


@pytest.mark.parametrize(
    ("sensitivities", "threshold", "expected"),
    [
        ([1, 1.5, 1.9, 8, 9], 2, 3),
        ([1, 1.5, 1.9, 8, 9], 1.4, 1),
        ([1, 1.5, 1.9, 8, 9], 5, 5),
        ([1, 2, 3], 2, 3),  # equal is no rise
        ([0, 0, 1, 5], 2, 3),  # no gradient before: nothing to compare with
        ([4], 2, 1),
        ([], 2, 0),
    ],
)
def test_layers_are_shared_up_to_the_rise(sensitivities, threshold, expected):
    assert shared_layers(sensitivities, threshold) == expected


def test_the_unit_of_the_loss_does_not_matter():
    torch.manual_seed(1)
    parameters, gradient = torch.randn(30), torch.randn(30)
    layers = {str(k): [slice(3 * k, 3 * k + 3)] for k in range(10)}
    chosen = set()
    for unit in (1, 8, 1 / 1024):
        importances = layer_importance(parameters, unit * gradient, layers).values()
        sensitivities = federation_sensitivity(list(importances))
        chosen.add(shared_layers(sensitivities, 1.5))
    assert len(chosen) == 1
