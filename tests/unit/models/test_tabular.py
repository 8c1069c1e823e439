"""Rows with codes and numbers."""

import pytest
import torch
from torch import nn

from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.feature_cache import forward_stages
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.engine.stacked_model import place_matters, unstackable
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.tabular import tabular

INPUTS = (
    InputSpec("x", (3,), "float32"),
    InputSpec("ward", (), "uint8", codes=5),
    InputSpec("seen", (2,), "int32", codes=4),
    InputSpec("age", (), "float32"),
)


def rows(n=7):
    torch.manual_seed(1)
    return (
        torch.randn(n, 3), torch.randint(5, (n,)), torch.randint(4, (n, 2)),
        torch.randn(n),
    )  # fmt: skip


def built(**options):
    torch.manual_seed(0)
    return tabular(INPUTS, 2, **{"embedding": 6, "hidden": (8, 4)} | options)


def test_codes_are_looked_up_and_joined_with_numbers():
    model, (x, ward, seen, age) = built(), rows()
    joined = torch.cat(
        [x, model.ward_embed.weight[ward], model.seen_embed.weight[seen].flatten(1),
         age[:, None]], dim=1,
    )  # fmt: skip
    dense = nn.Sequential(*model.body, model.head)
    assert torch.equal(model(*rows()), dense(joined))
    assert [name for name, _ in model.named_parameters()][:3] == [
        "ward_embed.weight", "seen_embed.weight", "body.0.weight",
    ]  # fmt: skip


def test_stages_are_the_forward_pass():
    model = built()
    samples = Samples(rows(), {}, torch.zeros(7))
    assert torch.equal(forward_stages(model.stages(), samples), model(*rows()))


def test_it_is_trained_in_stacks():
    model = PartitionedModel(built(), {"head.weight", "head.bias"})
    assert unstackable(model) == ""
    work = [Samples(rows(n), {}, torch.arange(n) % 2) for n in (5, 8)]
    assert place_matters(model, 4, work) == ""


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        (INPUTS[:1], {}, "none holds codes; take 'mlp'"),
        ((InputSpec("t", (4,), "int32", True, codes=3),), {}, "'t' is ragged"),
        ((InputSpec("a.b", (), "int32", codes=3),), {}, "contain a dot"),
        (INPUTS, {"hidden": ()}, "hidden is empty"),
        (INPUTS, {"embedding": 0}, "embedding must be 1 or more"),
    ],
)
def test_what_does_not_suit_is_refused(inputs, options, said):
    with pytest.raises(ConfigError, match=said):
        tabular(inputs, 2, **options)
