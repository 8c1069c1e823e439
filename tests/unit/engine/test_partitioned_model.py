import pytest
import torch
from torch import nn

from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.shared_layout import SharedLayout


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=True)
    )


def test_patterns_lists_and_callables_agree():
    by_glob = PartitionedModel.from_patterns(network(), personal=["3.*"])
    by_list = PartitionedModel.from_patterns(network(), personal=["3.weight", "3.bias"])
    by_shared = PartitionedModel.from_patterns(network(), shared=["0.*", "1.*"])
    by_rule = PartitionedModel.from_rule(
        network(), lambda name, p: name.startswith("3")
    )
    for split in (by_glob, by_list, by_shared, by_rule):
        assert split.personal_names == ["3.weight", "3.bias"]
        assert split.shared_names == ["0.weight", "0.bias", "1.weight", "1.bias"]
        assert len(split.shared) == 4 * 5 + 5 + 5 + 5
        assert len(split.personal) == 5 * 3 + 3


def test_a_rule_may_look_at_the_parameter():
    split = PartitionedModel.from_rule(network(), lambda name, p: p.dim() == 2)
    assert split.personal_names == ["0.weight", "3.weight"]


def test_vectors_are_views_in_both_directions():
    split = PartitionedModel.from_patterns(network(), personal=["3.*"])
    split.shared.fill_(2.0)
    split.personal.fill_(3.0)
    parameters = dict(split.module.named_parameters())
    assert (parameters["0.weight"] == 2).all()
    assert (parameters["3.bias"] == 3).all()
    with torch.no_grad():
        parameters["3.bias"].fill_(7.0)
    assert (split.personal[-3:] == 7).all()


def test_gradients_are_views_and_equal_autograd():
    reference = network()
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = nn.functional.cross_entropy(reference(x), y)
    expected = torch.autograd.grad(loss, list(reference.parameters()))
    split = PartitionedModel.from_patterns(network(), personal=["0.*"])
    split.gradient.zero_()
    nn.functional.cross_entropy(split.module(x), y).backward()
    parts = dict(
        zip((n for n, _ in reference.named_parameters()), expected, strict=True)
    )
    shared = torch.cat([parts[n].reshape(-1) for n in split.shared_names])
    personal = torch.cat([parts[n].reshape(-1) for n in split.personal_names])
    torch.testing.assert_close(split.gradient[split.block_slice("shared")], shared)
    torch.testing.assert_close(split.gradient[split.block_slice("personal")], personal)


def test_a_frozen_front_costs_no_backward_work():
    split = PartitionedModel.from_patterns(network(), personal=["3.*"])
    split.set_trainable("personal")
    visited: list[str] = []
    for name, layer in split.module.named_children():
        layer.register_forward_hook(
            lambda module, args, out, name=name: visited.append(
                f"{name}:{out.requires_grad}"
            )
        )
    split.gradient.zero_()
    split.module(torch.randn(3, 4)).sum().backward()
    assert visited == ["0:False", "1:False", "2:False", "3:True"]
    assert split.gradient[split.block_slice("shared")].abs().max() == 0
    assert split.gradient[split.block_slice("personal")].abs().max() > 0


def test_named_gives_back_every_tensor():
    split = PartitionedModel.from_patterns(network(), personal=["3.*"])
    named = SharedLayout([split.shared_shapes()]).named(split.shared)
    assert list(named) == split.shared_names
    for name, tensor in named.items():
        assert torch.equal(tensor, dict(split.module.named_parameters())[name])


def test_buffers_are_kept_apart_and_counters_are_integers():
    split = PartitionedModel.from_patterns(network(), personal=["3.*"])
    split.module.train()
    split.module(torch.randn(8, 4))
    floats, counters = split.read_buffers()
    assert floats.shape == (10,)
    assert counters.tolist() == [1]
    split.write_buffers(torch.arange(10.0), torch.tensor([41]))
    again, count = split.read_buffers()
    assert torch.equal(again, torch.arange(10.0))
    assert count.tolist() == [41]
    assert count.dtype == torch.int64


def test_the_table_counts_everything():
    rows = PartitionedModel.from_patterns(network(), personal=["3.*"]).table(7)
    assert {row.clients for row in rows} == {7}
    sizes = dict.fromkeys(("shared", "personal", "buffer", "counter"), 0)
    for row in rows:
        sizes[row.block] += row.size
    assert sizes == {"shared": 35, "personal": 18, "buffer": 10, "counter": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"personal": ["head.*"]}, ["'head.*'", "matches no parameter", "0.weight"]),
        ({"personal": ["3.wieght"]}, ["did you mean '3.weight'"]),
        ({}, ["exactly one"]),
        ({"personal": ["3.*"], "shared": ["0.*"]}, ["exactly one"]),
    ],
)
def test_what_cannot_be_split_is_refused(options, words):
    with pytest.raises(ConfigError) as caught:
        PartitionedModel.from_patterns(network(), **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("options", "shared"),
    [({"personal": []}, 53), ({"shared": ["*"]}, 53), ({"shared": []}, 0),
     ({"personal": ["*"]}, 0)],
)  # fmt: skip
def test_either_block_may_be_empty(options, shared):
    """It is then a view of no numbers, and the other is all of them."""
    split = PartitionedModel.from_patterns(network(), **options)
    assert (len(split.shared), len(split.personal)) == (shared, 53 - shared)
    assert len(split.gradient[split.block_slice("shared")]) == shared
    split.shared.fill_(1.0)
    split.personal.fill_(1.0)
    assert all(bool((p == 1).all()) for p in split.module.parameters())


def test_a_rule_and_a_position_may_leave_nothing_too():
    for one in (
        PartitionedModel.from_rule(network(), lambda name, p: True),
        PartitionedModel.from_position(network(), first=1, last=2),
    ):
        assert (one.shared_names, len(one.personal)) == ([], 53)
    with pytest.raises(ConfigError, match="more than the model's 3 layers"):
        PartitionedModel.from_position(network(), first=2, last=2)


def test_mixed_dtypes_are_refused():
    module = network()
    module[3].double()
    with pytest.raises(ConfigError, match=r"3\.weight is torch\.float64"):
        PartitionedModel.from_patterns(module, personal=["3.*"])
