"""The attention "fuse_base", and the network for motion sensors built on it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedapm_mpi.models.layers.padding import valid_mask
from tests.support.data.model_tasks import KU_HAR, Input, build, samples


def plain_gru(p, name, x):
    w_ih, w_hh = p[f"{name}.weight_ih_l0"], p[f"{name}.weight_hh_l0"]
    b_ih, b_hh = p[f"{name}.bias_ih_l0"], p[f"{name}.bias_hh_l0"]
    h, states = torch.zeros(len(x), w_hh.shape[1]), []
    for t in range(x.shape[1]):
        reset_x, update_x, new_x = F.linear(x[:, t], w_ih, b_ih).chunk(3, 1)
        reset_h, update_h, new_h = F.linear(h, w_hh, b_hh).chunk(3, 1)
        update = torch.sigmoid(update_x + update_h)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
        h = (1 - update) * new + update * h
        states.append(h)
    return torch.stack(states, 1)


def plain_har(p, names, inputs):
    tokens = []
    for name, x in zip(names, inputs, strict=True):
        x = x.transpose(1, 2)
        for layer in ("conv1", "conv2", "conv3"):
            weight, bias = (
                p[f"{name}_conv.{layer}.{kind}"] for kind in ("weight", "bias")
            )
            x = F.max_pool1d(F.relu(F.conv1d(x, weight, bias, padding=2)), 2)
        tokens.append(plain_gru(p, f"{name}_rnn", x.transpose(1, 2)))
    x = torch.cat(tokens, 1)
    inner = torch.tanh(
        F.linear(x, p["fuse_att.att_fc1.weight"], p["fuse_att.att_fc1.bias"])
    )
    scores = F.linear(inner, p["fuse_att.att_fc2.weight"], p["fuse_att.att_fc2.bias"])
    fused = torch.einsum("nth,ntd->nhd", scores.softmax(1), x).flatten(1)
    hidden = F.relu(F.linear(fused, p["classifier.0.weight"], p["classifier.0.bias"]))
    return F.linear(hidden, p["classifier.3.weight"], p["classifier.3.bias"])


def test_har_computes_what_is_published():
    module = build("har", KU_HAR, 8).eval()
    x = samples(KU_HAR, 4)
    expected = plain_har(dict(module.named_parameters()), ["acc", "gyro"], x)
    torch.testing.assert_close(module(*x), expected)


def test_dropout_of_har():
    x = samples(KU_HAR, 4)
    still = build("har", KU_HAR, 8, dropout=0.0)
    noisy = build("har", KU_HAR, 8)
    assert [m.p for m in noisy.modules() if isinstance(m, nn.Dropout)] == [0.1] * 3
    assert torch.equal(still(*x), still(*x))
    assert not torch.equal(noisy(*x), noisy(*x))
    calls = []
    for name, module in noisy.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    noisy(*x)
    expected = 3 * ["acc_conv.dropout"] + 3 * ["gyro_conv.dropout"] + ["classifier.2"]
    assert calls == expected
    noisy.eval()
    torch.testing.assert_close(still(*x), noisy(*x))


@pytest.mark.parametrize("longest", [64, 100])
def test_padding_does_not_change_a_sample(longest):
    inputs = (Input("acc", (longest, 3), ragged=True), Input("gyro", (64, 3)))
    module = build("har", inputs, 8).eval()
    acc, gyro = samples(inputs, 5)
    lengths = torch.tensor([longest, 61, 40, 15, 8])
    acc[~valid_mask(lengths, longest)] = 1e3
    batch = module(acc, gyro, lengths={"acc": lengths})
    for i, length in enumerate(lengths.tolist()):
        alone = module(acc[i : i + 1, :length], gyro[i : i + 1])
        torch.testing.assert_close(batch[i : i + 1], alone)


def test_gradient_of_a_padded_batch_is_that_of_its_samples():
    inputs = (Input("acc", (40, 3), ragged=True), Input("emg", (30, 1), ragged=True))
    module = build("har", inputs, 4, dropout=0.0)
    acc, emg = samples(inputs, 3)
    lengths = {"acc": torch.tensor([40, 23, 9]), "emg": torch.tensor([8, 30, 17])}
    parameters = list(module.parameters())
    batch = torch.autograd.grad(module(acc, emg, lengths=lengths).sum(), parameters)
    alone = [torch.zeros_like(p) for p in parameters]
    for i in range(3):
        a, e = lengths["acc"][i], lengths["emg"][i]
        logits = module(acc[i : i + 1, :a], emg[i : i + 1, :e])
        for total, part in zip(
            alone, torch.autograd.grad(logits.sum(), parameters), strict=True
        ):
            total += part
    torch.testing.assert_close(list(batch), alone, rtol=1e-4, atol=1e-5)


def test_full_lengths_change_nothing():
    inputs = tuple(Input(i.name, i.shape, ragged=True) for i in KU_HAR)
    module = build("har", inputs, 8).eval()
    x = samples(inputs, 4)
    full = {i.name: torch.full((4,), 64) for i in inputs}
    torch.testing.assert_close(module(*x, lengths=full), module(*x))


def test_a_missing_input_is_a_length_of_zero():
    inputs = tuple(Input(i.name, i.shape, ragged=True) for i in KU_HAR)
    module = build("har", inputs, 8).eval()
    acc, gyro = samples(inputs, 4)
    lengths = {"acc": torch.full((4,), 64), "gyro": torch.zeros(4, dtype=torch.int64)}
    found = module(acc, gyro, lengths=lengths)
    assert torch.equal(found, module(acc, gyro + 1, lengths=lengths))
    assert not torch.equal(found, module(acc + 1, gyro, lengths=lengths))


@pytest.mark.parametrize("steps", [8, 9, 15])
def test_har_makes_one_token_of_the_shortest_window(steps):
    inputs = (Input("acc", (steps, 2)),)
    module = build("har", inputs, 3).eval()
    x = samples(inputs, 4)
    states = []
    module.acc_rnn.register_forward_hook(lambda *call: states.append(call[2][0]))
    assert module(*x).shape == (4, 3)
    assert states[0].shape == (4, 1, 128)
