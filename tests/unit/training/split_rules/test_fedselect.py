"""FedSelect as a rule."""

import torch

from fedapm_mpi.training.split_rules import RULES
from fedapm_mpi.training.split_rules.base import LocalModel

RULE = RULES["fedselect"]


def test_the_change_is_scored():
    start = torch.ones(8)
    end = start + torch.tensor([0.0, 0.1, -0.1, 0.0, 0.2, -5.0, 3.0, 0.1])
    client = LocalModel({"a": 5, "b": 2, "c": 1}, start, end, torch.zeros(0))
    assert RULE.score(client) == {"a": 0.0, "b": 1.0, "c": 0.0}
    assert RULE.scored(["a", "b", "c"]) == ["a", "b", "c"]


def test_tensors_that_change_most_are_personal_as_far_as_they_fit():
    sizes = {"a": 80, "b": 15, "c": 5}
    assert RULE.personal({"a": 0.9, "b": 0.2, "c": 0.1}, sizes) == {"b", "c"}
