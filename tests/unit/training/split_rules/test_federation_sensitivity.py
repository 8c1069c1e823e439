"""PLayer-FL as a rule, on a network's own parameters."""

import pytest
import torch
from torch import nn

from fedapm_mpi.training.split_rules import RULES
from fedapm_mpi.training.split_rules.base import LocalModel

RULE = RULES["federation_sensitivity"]
NAMES = ["a.weight", "b.weight", "shift.bias", "c.weight", "c.bias"]


def local_model(module, gradient):
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    end = torch.cat([p.detach().flatten() for p in module.parameters()])
    return LocalModel(sizes, torch.zeros_like(end), end, gradient)


def test_a_layer_is_scored_by_its_weights():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    size = sum(p.numel() for p in module.parameters())
    gradient = torch.randn(size)
    found = RULE.score(local_model(module, gradient))
    places, begin = {}, 0
    for name, p in module.named_parameters():
        places[name] = (p.detach().flatten(), gradient[begin : begin + p.numel()])
        begin += p.numel()
    for layer in ("0", "1", "2"):
        weight, slope = places[f"{layer}.weight"]
        terms = [float(w * g) ** 2 for w, g in zip(weight, slope, strict=True)]
        assert found[layer] == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert list(found) == RULE.scored(list(places))


def test_recurrent_layers_are_one_layer():
    names = [name for name, _ in nn.GRU(3, 2, num_layers=2).named_parameters("rnn")]
    assert RULE.scored([*names, "head.weight", "head.bias"]) == ["rnn", "head"]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((1.0, 1.0, 5.0), NAMES[3:]),
        ((1.0, 2.0, 1.0), NAMES[1:]),
        ((1.0, 0.5, 0.5), []),
    ],
)
def test_layers_after_the_rise_are_personal(scores, expected):
    found = RULE.personal(
        dict(zip("abc", scores, strict=True)), dict.fromkeys(NAMES, 1)
    )
    assert found == set(expected)
