"""The attention "fuse_base" against its publication."""

import numpy as np
import pytest
import torch

from fedapm_mpi.models.layers.attention import FuseBase
from fedapm_mpi.models.layers.padding import valid_mask


def plain_fuse(module, x, lengths):
    """One sample, token and head at a time, padding simply left out."""
    w1, b1 = (t.detach().double().numpy() for t in module.att_fc1.parameters())
    w2, b2 = (t.detach().double().numpy() for t in module.att_fc2.parameters())
    rows = []
    for tokens, length in zip(x.double().numpy(), lengths, strict=True):
        tokens = tokens[:length]
        scores = np.array([w2 @ np.tanh(w1 @ token + b1) + b2 for token in tokens])
        row = []
        for head in range(len(b2)):
            weights = np.exp(scores[:, head]) / np.exp(scores[:, head]).sum()
            row.append(sum(a * token for a, token in zip(weights, tokens, strict=True)))
        rows.append(np.concatenate(row))
    return torch.tensor(np.array(rows), dtype=torch.float32)


def fuse(heads=6):
    torch.manual_seed(1)
    return FuseBase(128, heads, 512), torch.randn(3, 10, 128)


def test_fuse_base_computes_what_is_published():
    module, x = fuse()
    lengths = torch.tensor([10, 7, 1])
    torch.testing.assert_close(module(x), plain_fuse(module, x, [10, 10, 10]))
    found = module(x, valid_mask(lengths, 10))
    torch.testing.assert_close(found, plain_fuse(module, x, lengths))
    assert found.shape == (3, 768)


def test_fuse_base_gives_padding_no_weight():
    module, x = fuse()
    inside = valid_mask(torch.tensor([10, 7, 1]), 10)
    weights = module.weights(x, inside)
    assert weights.shape == (3, 6, 10)
    assert (weights.transpose(1, 2)[~inside] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 6))


@pytest.mark.parametrize("junk", [1e9, torch.inf, torch.nan])
def test_fuse_base_does_not_read_padding(junk):
    module, x = fuse()
    inside = valid_mask(torch.tensor([10, 7, 0]), 10)
    spoilt = x.masked_fill(~inside[..., None], junk).requires_grad_()
    found = module(spoilt, inside)
    assert torch.equal(found, module(x, inside))
    assert (found[2] == 0).all(), "a sample without tokens"
    found.sum().backward()
    assert (spoilt.grad[~inside] == 0).all()
    assert (spoilt.grad[inside] != 0).any()
