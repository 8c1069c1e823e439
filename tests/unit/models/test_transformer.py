"""The small transformer: what it computes, codes, and samples of other lengths."""

import math

import pytest
import torch
from torch.nn import functional as F

from fedapm_mpi.errors import DataError
from fedapm_mpi.models.layers.padding import valid_mask
from tests.support.data.model_tasks import Input, build, samples

TEXT = (Input("text", (9,), ragged=True), Input("wave", (6, 2)))
OPTIONS = {
    "vocabulary": {"text": 11}, "width": 8, "heads": 2, "layers": 2, "inner": 5,
    "dropout": 0.0,
}  # fmt: skip


def made(n=4):
    module = build("transformer", TEXT, 3, **OPTIONS)
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 11, (n, 9), generator=generator).float()
    (wave,) = samples(TEXT[1:], n)
    return module, codes, wave


def plain(p, codes, wave):
    """One sample, without padding, by the formulas of the paper."""
    x = torch.cat([
        p["token"][0],
        p["text_embed.weight"][codes.long()] + p["text_position"][: len(codes)],
        wave @ p["wave_embed.weight"].T + p["wave_embed.bias"] + p["wave_position"],
    ])  # fmt: skip
    for k in range(OPTIONS["layers"]):
        own = {n.removeprefix(f"encoder.layers.{k}."): t for n, t in p.items()}
        h = F.layer_norm(x, (8,), own["norm1.weight"], own["norm1.bias"])
        qkv = h @ own["self_attn.in_proj_weight"].T + own["self_attn.in_proj_bias"]
        heads = []
        for q, key, value in zip(
            *(t.chunk(2, 1) for t in qkv.chunk(3, 1)), strict=True
        ):
            heads.append((q @ key.T / math.sqrt(4)).softmax(1) @ value)
        mixed = torch.cat(heads, 1) @ own["self_attn.out_proj.weight"].T
        x = x + mixed + own["self_attn.out_proj.bias"]
        h = F.layer_norm(x, (8,), own["norm2.weight"], own["norm2.bias"])
        h = F.gelu(h @ own["linear1.weight"].T + own["linear1.bias"])
        x = x + h @ own["linear2.weight"].T + own["linear2.bias"]
    x = F.layer_norm(x, (8,), p["encoder.norm.weight"], p["encoder.norm.bias"])
    return x[0] @ p["classifier.weight"].T + p["classifier.bias"]


@pytest.mark.parametrize("junk", [7.0, 99.0])
@pytest.mark.parametrize("training", [True, False])
def test_computes_what_it_says(junk, training):
    module, codes, wave = made()
    module.train(training)
    lengths = torch.tensor([9, 4, 0, 1])
    codes[~valid_mask(lengths, 9)] = junk
    p = {n: t.detach().double() for n, t in module.named_parameters()}
    found = module(codes, wave, lengths={"text": lengths})
    expected = torch.stack([
        plain(p, codes[i, : lengths[i]], wave[i].double()) for i in range(4)
    ])  # fmt: skip
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_padding_of_a_sequence_may_be_anything():
    inputs = (Input("wave", (6, 2), ragged=True),)
    module = build("transformer", inputs, 3, dropout=0.0)
    (wave,) = samples(inputs, 3)
    lengths = {"wave": torch.tensor([5, 2, 0])}
    spoilt = wave.masked_fill(~valid_mask(lengths["wave"], 6)[..., None], torch.nan)
    logits = module(spoilt, lengths=lengths)
    torch.testing.assert_close(logits, module(wave, lengths=lengths))
    logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_order_matters():
    module, codes, wave = made()
    codes[:] = torch.arange(9.0)
    assert not torch.allclose(module(codes, wave), module(codes.flip(1), wave))


@pytest.mark.parametrize(
    ("code", "message"), [(11, "the code 11"), (-1, "the code -1")]
)
def test_codes_beyond_the_vocabulary(code, message):
    module, codes, wave = made()
    codes[1, 2] = code
    with pytest.raises(
        DataError, match=f"'text' has {message}, but vocabulary.text is"
    ):
        module(codes, wave)


def test_a_missing_vector_is_a_length_of_zero():
    inputs = (Input("age", (3,), ragged=True), Input("wave", (6, 2)))
    module = build("transformer", inputs, 3, dropout=0.0)
    age, wave = samples(inputs, 3)
    lengths = {"age": torch.tensor([3, 0, 3])}
    found = module(age, wave, lengths=lengths)
    changed = module(age + 1, wave, lengths=lengths)
    assert [torch.equal(a, b) for a, b in zip(found, changed, strict=True)] == [
        False, True, False,
    ]  # fmt: skip
    torch.testing.assert_close(found[[0, 2]], module(age, wave)[[0, 2]])
