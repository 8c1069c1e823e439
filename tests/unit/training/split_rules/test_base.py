"""What a rule is given."""

import torch

from fedapm_mpi.training.split_rules import RULES
from fedapm_mpi.training.split_rules.base import LocalModel


def test_places_follow_each_other():
    empty = torch.zeros(0)
    client = LocalModel({"a": 3, "b": 0, "c": 2}, empty, empty, empty)
    assert client.places() == {"a": slice(0, 3), "b": slice(3, 3), "c": slice(3, 5)}


def test_every_rule_scores_what_it_names():
    names = {"body.weight": 6, "body.bias": 2, "head.weight": 4, "head.bias": 2}
    values = torch.randn(14, generator=torch.Generator().manual_seed(0))
    client = LocalModel(names, torch.zeros(14), values, values)
    for rule in RULES.values():
        scores = rule.score(client)
        assert list(scores) == rule.scored(list(names))
        assert rule.personal(scores, names) <= set(names)
