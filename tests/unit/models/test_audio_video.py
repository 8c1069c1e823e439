"""FedAPM's models for CrisisMMD and CREMA-D, and samples of different lengths."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedapm_mpi.models.layers.padding import valid_mask
from fedapm_mpi.models.layers.recurrent import gru_tokens
from tests.support.data.model_tasks import CREMA_D, CRISIS_MMD, Input, build, samples
from tests.unit.models.test_har import plain_gru

GRU = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
FUSE = [
    ("fuse_att.att_fc1.weight", (512, 128)),
    ("fuse_att.att_fc1.bias", (512,)),
    ("fuse_att.att_fc2.weight", (6, 512)),
    ("fuse_att.att_fc2.bias", (6,)),
    ("classifier.0.weight", (64, 768)),
    ("classifier.0.bias", (64,)),
]
PUBLISHED = {
    "image-text": [
        ("img_proj.0.weight", (128, 1280)),
        ("img_proj.0.bias", (128,)),
        ("img_proj.3.weight", (128, 128)),
        ("img_proj.3.bias", (128,)),
        *zip(
            [f"text_rnn.{kind}" for kind in GRU],
            [(384, 512), (384, 128), (384,), (384,)],
            strict=True,
        ),
        *FUSE,
        ("classifier.3.weight", (8, 64)),
        ("classifier.3.bias", (8,)),
    ],
    "audio-video": [
        ("audio_conv.conv1.weight", (32, 80, 5)),
        ("audio_conv.conv1.bias", (32,)),
        ("audio_conv.conv2.weight", (64, 32, 5)),
        ("audio_conv.conv2.bias", (64,)),
        ("audio_conv.conv3.weight", (128, 64, 5)),
        ("audio_conv.conv3.bias", (128,)),
        *zip(
            [f"audio_rnn.{kind}" for kind in GRU],
            [(384, 128), (384, 128), (384,), (384,)],
            strict=True,
        ),
        *zip(
            [f"video_rnn.{kind}" for kind in GRU],
            [(384, 1280), (384, 128), (384,), (384,)],
            strict=True,
        ),
        *FUSE,
        ("classifier.3.weight", (4, 64)),
        ("classifier.3.bias", (4,)),
    ],
}
KINDS = {
    "image-text": (CRISIS_MMD, 8, 545_870, ("img_proj.", "text_rnn."), 427_008),
    "audio-video": (
        CREMA_D, 4, 823_338, ("audio_conv.", "audio_rnn.", "video_rnn."), 704_736,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_parameters_are_the_published_ones(name):
    inputs, classes, total, encoders, personal = KINDS[name]
    parameters = list(build(name, inputs, classes).named_parameters())
    assert [(n, tuple(p.shape)) for n, p in parameters] == PUBLISHED[name]
    assert sum(p.numel() for _, p in parameters) == total
    of_encoders = [p.numel() for n, p in parameters if n.startswith(encoders)]
    assert sum(of_encoders) == personal


# --- what they compute, by other means: one sample at a time, without padding


def fused(p, x):
    """Attention and classifier of one sample's tokens ``(1, S, hidden)``."""
    dense = {n: (p[f"{n}.weight"], p[f"{n}.bias"]) for n in (
        "fuse_att.att_fc1", "fuse_att.att_fc2", "classifier.0", "classifier.3",
    )}  # fmt: skip
    inner = torch.tanh(F.linear(x, *dense["fuse_att.att_fc1"]))
    weights = F.linear(inner, *dense["fuse_att.att_fc2"]).softmax(1)
    heads = torch.einsum("nth,ntd->nhd", weights, x).flatten(1)
    hidden = F.relu(F.linear(heads, *dense["classifier.0"]))
    return F.linear(hidden, *dense["classifier.3"])


def plain_image_text(p, image, text):
    hidden = F.relu(F.linear(image, p["img_proj.0.weight"], p["img_proj.0.bias"]))
    token = F.linear(hidden, p["img_proj.3.weight"], p["img_proj.3.bias"])
    return fused(p, torch.cat([token, plain_gru(p, "text_rnn", text)], 1))


def plain_audio_video(p, audio, video):
    x = audio.transpose(1, 2)
    for layer in ("conv1", "conv2", "conv3"):
        kernel, bias = (p[f"audio_conv.{layer}.{k}"] for k in ("weight", "bias"))
        x = F.max_pool1d(F.relu(F.conv1d(x, kernel, bias, padding=2)), 2)
    tokens = [plain_gru(p, "audio_rnn", x.transpose(1, 2))]
    if video.shape[1]:
        tokens.append(plain_gru(p, "video_rnn", video))
    return fused(p, torch.cat(tokens, 1))


PLAIN = {"image-text": plain_image_text, "audio-video": plain_audio_video}


@pytest.mark.parametrize("name", KINDS)
def test_computes_what_is_published(name):
    inputs, classes, *_ = KINDS[name]
    module = build(name, inputs, classes).eval()
    x = samples(inputs, 4)
    expected = PLAIN[name](dict(module.named_parameters()), *x)
    torch.testing.assert_close(module(*x), expected)


@pytest.mark.parametrize("junk", [1e3, torch.nan])
@pytest.mark.parametrize("name", KINDS)
def test_padding_is_not_read_and_gradients_are_those_of_the_samples(name, junk):
    lengths = {
        "image-text": {"text": [9, 4, 1, 7]},
        "audio-video": {"audio": [48, 8, 31, 23], "video": [3, 10, 0, 1]},
    }[name]
    lengths = {key: torch.tensor(value) for key, value in lengths.items()}
    inputs, classes, *_ = KINDS[name]
    inputs = tuple(Input(i.name, i.shape, i.name in lengths) for i in inputs)
    module = build(name, inputs, classes, dropout=0.0)
    x = samples(inputs, 4)
    for spec, tensor in zip(inputs, x, strict=True):
        if spec.ragged:
            tensor[~valid_mask(lengths[spec.name], spec.shape[0])] = junk
    p = dict(module.named_parameters())
    batch = module(*x, lengths=lengths)
    alone = torch.cat([
        PLAIN[name](p, *(
            tensor[i : i + 1, : lengths[spec.name][i]] if spec.ragged
            else tensor[i : i + 1]
            for spec, tensor in zip(inputs, x, strict=True)
        ))
        for i in range(4)
    ])  # fmt: skip
    torch.testing.assert_close(batch, alone)
    weights = torch.randn(batch.shape)
    found, expected = (
        torch.autograd.grad((logits * weights).sum(), list(p.values()))
        for logits in (batch, alone)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "missing"), [
    ("image-text", "image"), ("image-text", "text"), ("audio-video", "audio"),
    ("audio-video", "video"),
])  # fmt: skip
def test_a_missing_input_is_a_length_of_zero(name, missing):
    inputs, classes, *_ = KINDS[name]
    inputs = tuple(Input(i.name, i.shape, ragged=True) for i in inputs)
    module = build(name, inputs, classes, dropout=0.0)
    x = dict(zip((i.name for i in inputs), samples(inputs, 3), strict=True))
    lengths = {i.name: torch.full((3,), i.shape[0]) for i in inputs}
    lengths[missing] = torch.zeros(3, dtype=torch.int64)
    found = module(*x.values(), lengths=lengths)
    for key, tensor in x.items():
        changed = module(*(x | {key: tensor + 1}).values(), lengths=lengths)
        assert torch.equal(found, changed) == (key == missing)
    found.sum().backward()
    encoders = {"image": "img_proj", "text": "text_rnn", "audio": "audio_",
                "video": "video_rnn"}  # fmt: skip
    # Of a single token, an image's, the attention has nothing to choose.
    idle = "fuse_att" if missing == "text" else "fuse_att.att_fc2.bias"
    for n, p in module.named_parameters():
        silent = n.startswith((encoders[missing], idle))
        assert (p.grad is None or p.grad.abs().max() < 1e-6) == silent, n


def test_an_image_as_a_plain_vector_is_the_same():
    image, text = samples(CRISIS_MMD, 3)
    flat = (Input("image", (1280,)), CRISIS_MMD[1])
    one, other = build("image-text", CRISIS_MMD, 8), build("image-text", flat, 8)
    torch.testing.assert_close(one.eval()(image, text), other.eval()(image[:, 0], text))
    torch.testing.assert_close(
        one(image, text, lengths={"image": torch.tensor([1, 0, 1])}),
        other(image[:, 0], text, lengths={"image": torch.tensor([1280, 0, 1280])}),
    )


def test_dropout_is_in_the_encoder_and_the_classifier():
    for name, expected in (("image-text", 2), ("audio-video", 2)):
        inputs, classes, *_ = KINDS[name]
        module = build(name, inputs, classes)
        assert [m.p for m in module.modules() if isinstance(m, nn.Dropout)] == [
            0.1
        ] * expected
        x = samples(inputs, 3)
        assert not torch.equal(module(*x), module(*x))


# --- recurrent networks over samples of different lengths


def test_states_are_computed_for_the_longest_only():
    torch.manual_seed(0)
    rnn, x = nn.GRU(3, 5, batch_first=True), torch.randn(4, 20, 3)
    tokens, inside = gru_tokens(rnn, x, torch.tensor([2, 7, 0, 5]))
    assert tokens.shape == (4, 7, 5)
    assert inside.sum(1).tolist() == [2, 7, 0, 5]
    for i, length in enumerate((2, 7, 0, 5)):
        alone = rnn(x[i : i + 1, :length])[0][0] if length else torch.empty(0, 5)
        torch.testing.assert_close(tokens[i, :length], alone)
    whole, everywhere = gru_tokens(rnn, x, None)
    torch.testing.assert_close(whole, rnn(x)[0])
    assert everywhere.all()


def test_states_of_a_batch_in_which_all_is_missing():
    rnn = nn.GRU(3, 5, batch_first=True)
    x = torch.full((2, 6, 3), torch.nan)
    tokens, inside = gru_tokens(rnn, x, torch.zeros(2, dtype=torch.int64))
    assert tokens.shape == (2, 1, 5)
    assert not inside.any()
    tokens.sum().backward()
    assert all(p.grad.isfinite().all() for p in rnn.parameters())
