"""Models of transformers: small ones that are built here, and a saved folder."""

import copy

import pytest
import torch

from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models import models
from tests.support.data.model_tasks import Input, build
from tests.support.processes.cli_runs import experiment

pytest.importorskip("transformers", reason="needs the extra transformers")

TEXT = (Input("text", (6,), ragged=True, codes=11),)
IMAGE = (Input("scan", (3, 8, 8)),)
BERT = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 8,
}  # fmt: skip
GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
VIT = BERT | {"patch_size": 4}


def codes(n=3):
    return torch.randint(0, 11, (n, 6), generator=torch.Generator().manual_seed(0))


def test_a_text_is_classified_and_its_padding_is_masked():
    module = build("hf", TEXT, 3, model="bert", config=BERT).eval()
    assert module.config.vocab_size == 11
    text = codes()
    lengths = {"text": torch.tensor([6, 3, 2])}
    found = module(text, lengths=lengths).logits
    assert found.shape == (3, 3)
    other = text.clone()
    other[1, 3:], other[2, 2:] = 9, 9
    torch.testing.assert_close(module(other, lengths=lengths).logits, found)
    mask = (torch.arange(6) < lengths["text"][:, None]).long()
    alone = module(input_ids=text, attention_mask=mask).logits
    torch.testing.assert_close(alone, found)
    whole = module(other, lengths={"text": torch.tensor([6, 6, 6])}).logits
    assert not torch.allclose(whole[1:], found[1:])


def test_parameters_have_the_librarys_names_and_a_copy_is_called_alike():
    module = build("hf", TEXT, 3, model="bert", config=BERT).eval()
    names = [name for name, _ in module.named_parameters()]
    assert names[0] == "bert.embeddings.word_embeddings.weight"
    assert names[-2:] == ["classifier.weight", "classifier.bias"]
    copied = copy.deepcopy(module)
    lengths = {"text": torch.tensor([6, 3, 2])}
    torch.testing.assert_close(
        copied(codes(), lengths=lengths).logits, module(codes(), lengths=lengths).logits
    )


def test_a_causal_language_model_scores_every_token():
    module = build("hf", TEXT, 11, model="gpt2", head="causal-lm", config=GPT2).eval()
    text = codes()
    before = module(text).logits
    assert before.shape == (3, 6, 11)
    text[:, 4:] = (text[:, 4:] + 1) % 11
    torch.testing.assert_close(module(text).logits[:, :4], before[:, :4])
    tied = module.transformer.wte.weight
    assert module.lm_head.weight is tied


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 3), (8, 8)], ids=str)
def test_images_in_any_layout(shape):
    inputs = (Input("scan", shape),)
    module = build("hf", inputs, 4, model="vit", config=VIT).eval()
    image = torch.randn(2, *shape)
    found = module(image).logits
    first = image.movedim(-1, 1) if shape[-1] == 3 else image.reshape(2, -1, 8, 8)
    torch.testing.assert_close(module(pixel_values=first).logits, found)
    assert found.shape == (2, 4)


def test_saved_weights_are_where_it_begins(tmp_path, monkeypatch):
    first = build("hf", TEXT, 3, model="bert", config=BERT)
    first.save_pretrained(tmp_path / "saved")
    torch.manual_seed(5)
    hf, folder = models.get("hf"), str(tmp_path / "saved")
    again = hf(TEXT, 3, model=folder, pretrained=True)
    for (name, old), new in zip(
        first.named_parameters(), again.parameters(), strict=True
    ):
        assert torch.equal(old, new), name
    drawn = hf(TEXT, 3, model=folder)
    assert not torch.equal(next(drawn.parameters()), next(first.parameters()))
    wider = hf(TEXT, 5, model=folder, pretrained=True)
    assert wider.classifier.weight.shape[0] == 5
    assert torch.equal(next(wider.parameters()), next(first.parameters()))
    monkeypatch.chdir(tmp_path)
    made = validate(
        experiment(tmp_path) | {"model": {"name": "hf:./saved"}}, "test"
    ).model
    assert (made["name"], made["model"]) == ("hf", folder)


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        (TEXT, {"model": "bret"}, r"no kind of model 'bret'; did you mean 'bert'\?"),
        (
            TEXT,
            {"model": "a/b"},
            "is no folder .* library's cache; download",
        ),
        (
            TEXT,
            {"model": "bert", "config": {"hiden_size": 3}},
            r"config.hiden_size is no value of a bert .*did you mean 'hidden_size'",
        ),
        (
            TEXT,
            {"model": "bert", "config": BERT | {"num_attention_heads": 3}},
            "cannot build 'bert' .*hidden size",
        ),
        (TEXT, {"model": "bert", "config": {"num_labels": 3}}, "leave them out"),
        (TEXT, {"model": "bert", "head": "tokens"}, "did you mean 'token'"),
        (
            (*TEXT, Input("more", (2,), codes=11)),
            {"model": "bert", "config": BERT},
            "not clear what input 'more' is .* set names.more to one of input_ids",
        ),
        (
            TEXT,
            {"model": "bert", "config": BERT, "names": {"txt": "input_ids"}},
            "names.txt names no input; did you mean 'text'",
        ),
        (
            TEXT,
            {"model": "gpt2", "head": "causal-lm", "config": GPT2 | {"vocab_size": 9}},
            "its vocabulary has 9 tokens, but the data set 3",
        ),
    ],
)
def test_refuses(inputs, options, said):
    with pytest.raises(ConfigError, match=said):
        build("hf", inputs, 3, **options)
