"""Network for an image and a text, FedAPM's model for CrisisMMD."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import (
    InputSpec,
    check_inputs,
    describe,
    models,
)
from fedapm_mpi.models.layers.attention import Fused, FusionOptions
from fedapm_mpi.models.layers.recurrent import gru_tokens


class ImageText(Fused):
    """A dense encoder of image features and a GRU over words, fused by attention.

    Parameters
    ----------
    inputs
        The image's features and the words, in this order.
    num_classes
        Number of logits.
    options
        Sizes, and the rate of dropout.
    """

    def __init__(
        self,
        inputs: tuple[InputSpec, InputSpec],
        num_classes: int,
        options: FusionOptions,
    ) -> None:
        super().__init__()
        image, text = inputs
        self.names = (image.name, text.name)
        self.img_proj = nn.Sequential(
            nn.Linear(image.shape[-1], options.hidden),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden, options.hidden),
        )
        self.text_rnn = nn.GRU(text.shape[-1], options.hidden, batch_first=True)
        self.add_head(num_classes, options)

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return logits ``(n, num_classes)``.

        Parameters
        ----------
        image
            ``(n, D)`` or ``(n, 1, D)``.
        text
            ``(n, L, D)``.
        lengths
            True lengths ``(n,)`` of the ragged inputs, by name; a length of 0 is an
            input that is missing, of which nothing is read.
        """
        of_image, of_text = ((lengths or {}).get(name) for name in self.names)
        token = self.img_proj(image.reshape(len(image), 1, -1))
        there = torch.ones(len(image), 1, dtype=torch.bool, device=image.device)
        if of_image is not None:
            there = of_image[:, None] > 0
        words, inside = gru_tokens(self.text_rnn, text, of_text)
        return self.logits((token, words), (there, inside), bool(lengths))


@models.register("image-text")
def image_text(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    hidden: int = 128,
    heads: int = 6,
    attention: int = 512,
    classifier: int = 64,
    dropout: float = 0.1,
) -> nn.Module:
    """Build the network of FedAPM's experiments on CrisisMMD.

    Parameters: ``img_proj``, ``text_rnn``, ``fuse_att`` and ``classifier``; 545 870
    numbers for CrisisMMD (1280 features of an image, words of 512, and 8 classes).

    Parameters
    ----------
    inputs
        Two: features of an image, ``(D,)`` or ``(1, D)``, then words, ``(L, D)``; both
        may be ragged, an image to be missing.
    num_classes
        Number of outputs: the classes, or another number that the task needs.
    hidden
        Size of a token.
    heads
        Heads of the attention.
    attention
        Width of the layer that scores tokens.
    classifier
        Width of the layer before the logits.
    dropout
        Rate of dropout in the image's encoder and the classifier, in [0, 1).

    Raises
    ------
    ConfigError
        If the inputs or the options do not suit.
    """
    check_inputs("image-text", inputs, num_classes)
    options = FusionOptions(
        model="image-text",
        hidden=hidden,
        heads=heads,
        attention=attention,
        classifier=classifier,
        dropout=dropout,
    )
    if len(inputs) != 2 or not _is_image(inputs[0]) or len(inputs[1].shape) != 2:
        msg = (
            f"model 'image-text': the inputs are {describe(inputs)}; needed are "
            "features of an image, (D,) or (1, D), then words, (L, D)"
        )
        raise ConfigError(msg)
    return ImageText((inputs[0], inputs[1]), num_classes, options)


def _is_image(spec: InputSpec) -> bool:
    return len(spec.shape) > 0 and spec.shape[:-1] in ((), (1,))
