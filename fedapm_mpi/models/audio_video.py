"""Network for audio and video, FedAPM's model for CREMA-D."""

from collections.abc import Mapping

from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import (
    InputSpec,
    check_inputs,
    describe,
    models,
)
from fedapm_mpi.models.layers.attention import Fused, FusionOptions
from fedapm_mpi.models.layers.conv import STEPS_PER_TOKEN, ConvEncoder
from fedapm_mpi.models.layers.recurrent import gru_tokens


class AudioVideo(Fused):
    """Convolutions and a GRU over audio, a GRU over video frames, fused by attention.

    Parameters
    ----------
    inputs
        Audio and video, in this order.
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
        audio, video = inputs
        self.names = (audio.name, video.name)
        self.audio_conv = ConvEncoder(audio.shape[1], options.filters, options.dropout)
        self.audio_rnn = nn.GRU(4 * options.filters, options.hidden, batch_first=True)
        self.video_rnn = nn.GRU(video.shape[1], options.hidden, batch_first=True)
        self.add_head(num_classes, options)

    def forward(
        self,
        audio: Tensor,
        video: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return logits ``(n, num_classes)``.

        Parameters
        ----------
        audio, video
            Sequences, each ``(n, T, C)``.
        lengths
            True lengths ``(n,)`` of the ragged inputs, by name. What follows a sample
            does not change its logits; a length of 0 is an input that is missing, and
            audio shorter than eight steps has no token.
        """
        of_audio, of_video = ((lengths or {}).get(name) for name in self.names)
        if of_audio is not None:
            # Eight steps at least, so that there is a token to leave out.
            longest = max(STEPS_PER_TOKEN, int(of_audio.max()))
            audio = audio[:, :longest]
        steps = self.audio_conv(audio, of_audio)
        shrunk = None if of_audio is None else of_audio // STEPS_PER_TOKEN
        audio_tokens, audio_inside = gru_tokens(self.audio_rnn, steps, shrunk)
        video_tokens, video_inside = gru_tokens(self.video_rnn, video, of_video)
        return self.logits(
            (audio_tokens, video_tokens), (audio_inside, video_inside), bool(lengths)
        )


def _check_inputs(inputs: tuple[InputSpec, ...]) -> None:
    """Raise `ConfigError` unless the inputs are audio and video."""
    if (
        len(inputs) != 2
        or any(len(spec.shape) != 2 for spec in inputs)
        or inputs[0].shape[0] < STEPS_PER_TOKEN
    ):
        msg = (
            f"model 'audio-video': the inputs are {describe(inputs)}; needed are two "
            f"sequences (T, C), audio of T >= {STEPS_PER_TOKEN} steps, then video"
        )
        raise ConfigError(msg)


@models.register("audio-video")
def audio_video(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    filters: int = 32,
    hidden: int = 128,
    heads: int = 6,
    attention: int = 512,
    classifier: int = 64,
    dropout: float = 0.1,
) -> nn.Module:
    """Build the network of FedAPM's experiments on CREMA-D.

    Parameters: ``audio_conv``, ``audio_rnn``, ``video_rnn``, ``fuse_att`` and
    ``classifier``; 823 338 numbers for CREMA-D (80 mel bands, 1280 features of a
    frame, and 4 classes).

    Parameters
    ----------
    inputs
        Two sequences: audio, ``(T, C)`` with T >= 8, then video, ``(T, C)``; both may
        be ragged.
    num_classes
        Number of outputs: the classes, or another number that the task needs.
    filters
        Channels of the first of the three convolutions; the others have 2 and 4
        times as many.
    hidden
        Size of a GRU's state, which is that of a token.
    heads
        Heads of the attention.
    attention
        Width of the layer that scores tokens.
    classifier
        Width of the layer before the logits.
    dropout
        Rate of dropout in the audio encoder and the classifier, in [0, 1).

    Raises
    ------
    ConfigError
        If the inputs or the options do not suit.
    """
    check_inputs("audio-video", inputs, num_classes)
    options = FusionOptions(
        model="audio-video",
        filters=filters,
        hidden=hidden,
        heads=heads,
        attention=attention,
        classifier=classifier,
        dropout=dropout,
    )
    _check_inputs(inputs)
    return AudioVideo((inputs[0], inputs[1]), num_classes, options)
