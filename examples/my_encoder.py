"""A Hugging Face encoder as a model, built from a configuration without a download.

    python examples/my_encoder.py sentences.npz
    fedapm prepare arrays --from sentences.npz --to data/sentences
    fedapm train examples/encoder.yaml

The first command writes made-up sentences. Needs transformers: ``pip install
'fedapm-mpi[text]'``. `architecture` is the name of any text encoder there, such as
bert, distilbert, roberta, electra, modernbert or deberta-v2. For pretrained weights,
give the sizes and codes (of its tokenizer) that the weights have, and the weights by
``initial_model``, under the names in split.csv.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError


class Encoder(nn.Module):
    """An encoder, and a dense layer on the mean of its last states."""

    def __init__(self, encoder: nn.Module, name: str, pad: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.name, self.pad = name, pad
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, x: Tensor, lengths: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return class scores (n, classes) of codes (n, T), which come as floats."""
        codes = x.long()
        if lengths is None:
            there = codes != self.pad
        else:
            place = torch.arange(codes.shape[1], device=codes.device)
            there = place < lengths[self.name][:, None]
            codes = codes.where(there, self.pad)
        # Attention to nothing is not a number: an empty sample has one padding code.
        there = torch.cat([there[:, :1] | ~there.any(1, keepdim=True), there[:, 1:]], 1)
        states = self.encoder(input_ids=codes, attention_mask=there.long())
        weights = there[:, :, None].to(states.last_hidden_state.dtype)
        mean = (states.last_hidden_state * weights).sum(1) / weights.sum(1)
        return self.head(mean)


def encoder(
    inputs,
    num_classes,
    *,
    architecture: str = "bert",
    vocabulary: int = 1000,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
    pad: int = 0,
    settings: dict[str, Any] | None = None,
) -> nn.Module:
    """Build an encoder with random weights for a data set with one input, codes (T,).

    `settings` are other fields of the architecture's configuration, such as
    ``{hidden_dropout_prob: 0.0}``.
    """
    from transformers import AutoConfig, AutoModel

    (spec,) = inputs
    known = AutoConfig.for_model(architecture)
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "pad_token_id": pad,
        # RoBERTa and its relatives count positions from pad + 1 on.
        "max_position_embeddings": spec.shape[0] + pad + 1,
        ("hidden_dim" if hasattr(known, "hidden_dim") else "intermediate_size"): 4
        * hidden_size,
    }
    for key in settings or {}:
        if not hasattr(known, key):
            msg = f"{architecture} has no setting {key!r}"
            raise ConfigError(msg)
    module = AutoModel.from_config(
        AutoConfig.for_model(architecture, **{**sizes, **(settings or {})})
    )
    if getattr(module, "pooler", None) is not None:
        module.pooler = None  # its parameters would have no gradient
    return Encoder(module, spec.name, pad, num_classes)


def write_sentences(file: Path, clients: int = 8, sentences: int = 120) -> None:
    """Write made-up sentences of ten words; few topics and words are frequent.

    Half of a sentence's words are of its topic, the others of all. In each client's
    dialect, a quarter of the words have changed places.
    """
    topics, own, length = 16, 16, 10
    words = 1 + topics * own  # 0 is padding
    by_topic, by_word = (1 / np.arange(1, n + 1) for n in (topics, own))  # Zipf's law
    codes, labels = [], []
    for client in range(clients):
        rng = np.random.default_rng(client)
        topic = rng.choice(topics, sentences, p=by_topic / by_topic.sum())
        topic[:topics] = np.arange(topics)
        shape = (sentences, length)
        about = np.where(
            rng.random(shape) < 0.5, topic[:, None], rng.integers(topics, size=shape)
        )
        word = rng.choice(own, shape, p=by_word / by_word.sum())
        dialect = np.arange(words)
        moved = rng.choice(np.arange(1, words), words // 4, replace=False)
        dialect[moved] = rng.permutation(moved)
        codes.append(dialect[1 + about * own + word])
        labels.append(topic)
    np.savez(
        file,
        x_words=np.concatenate(codes).astype(np.int16),
        y=np.concatenate(labels),
        client=np.repeat(np.arange(clients), sentences),
    )


if __name__ == "__main__":
    write_sentences(Path(sys.argv[1]))
