"""The recurrent language model: what it computes, and what it refuses."""

import pytest
import torch
from torch.nn import functional as F

from fedapm_mpi.errors import ConfigError
from tests.support.data.model_tasks import Input, build

TEXT = (Input("text", (7,), ragged=True, codes=5),)


def codes(n=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 5, (n, 7), generator=generator)


def test_computes_what_it_says():
    """One LSTM layer by its equations (Hochreiter and Schmidhuber, with forgetting)."""
    module = build("language-model", TEXT, 6, embedding=3, hidden=4, layers=1)
    p = dict(module.named_parameters())
    x = p["embedding.weight"][codes()]
    h, c = torch.zeros(3, 4), torch.zeros(3, 4)
    found = []
    for t in range(7):
        gates = (
            x[:, t] @ p["recurrent.weight_ih_l0"].T
            + p["recurrent.bias_ih_l0"]
            + h @ p["recurrent.weight_hh_l0"].T
            + p["recurrent.bias_hh_l0"]
        )
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        found.append(F.linear(h, p["head.weight"], p["head.bias"]))
    expected = torch.stack(found, dim=1)
    torch.testing.assert_close(module(codes()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_what_follows_does_not_change_what_was_before(cell):
    module = build("language-model", TEXT, 6, cell=cell, hidden=4, dropout=0.5).eval()
    text = codes()
    before = module(text, lengths={"text": torch.tensor([4, 4, 4])})
    text[:, 4:] = (text[:, 4:] + 1) % 5
    after = module(text)
    torch.testing.assert_close(after[:, :4], before[:, :4], rtol=0, atol=0)
    assert not torch.allclose(after[:, 4:], before[:, 4:])
    assert module.input_encoders() == ("embedding",)


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        ((Input("x", (7,)),), {}, "needed is one that holds codes"),
        ((Input("x", (7, 2), codes=3),), {}, "needed is one that holds codes"),
        ((*TEXT, Input("x", (2,), codes=3)), {}, "needed is one that holds codes"),
        (TEXT, {"cell": "rnn"}, "cell is 'rnn' .known: lstm, gru"),
        (TEXT, {"hidden": 0}, "hidden must be 1 or more"),
        (TEXT, {"dropout": 1.0}, "dropout"),
    ],
)
def test_refuses(inputs, options, said):
    with pytest.raises(ConfigError, match=said):
        build("language-model", inputs, 6, **options)


@pytest.mark.parametrize("name", ["mlp", "logistic", "cnn", "unet", "har"])
def test_models_that_do_not_embed_refuse_codes(name):
    with pytest.raises(ConfigError, match="holds codes, which this model does not"):
        build(name, TEXT, 6)


def test_transformer_takes_the_number_of_codes_from_the_data_set():
    module = build("transformer", TEXT, 6, width=8, heads=2)
    assert module.text_embed.weight.shape == (5, 8)
    assert module(codes()).shape == (3, 6)
    with pytest.raises(ConfigError, match=r"vocabulary.text is not needed: .* 5 codes"):
        build("transformer", TEXT, 6, vocabulary={"text": 5})
