"""Networks of timm for images."""

from typing import Any

from torch import nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import InputSpec, check_inputs, models
from fedapm_mpi.models.layers.images import one_image
from fedapm_mpi.models.layers.named_inputs import ImageInput
from fedapm_mpi.registry import did_you_mean

FIXED = ("pretrained", "num_classes", "in_chans")


@models.register("timm")
def timm(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    model: str,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a network of timm, such as vit_tiny_patch16_224 (extra ``timm``).

    ``timm:MODEL`` is short for this model with that option. Parameters have the names
    that the library gives them. Weights are drawn; ``initial_model`` starts from a file
    of others.

    Parameters
    ----------
    inputs
        One image: (H, W), (C, H, W) or (H, W, C).
    num_classes
        Number of outputs.
    model
        Name, as ``timm.list_models()`` has it.
    options
        Further arguments of the network, such as ``img_size``.

    Raises
    ------
    ConfigError
        If the library is not installed, there is no such network, or the input or the
        options do not suit.
    """
    check_inputs("timm", inputs, num_classes)
    try:
        import timm as library
    except (ImportError, RuntimeError) as error:  # one that does not suit torch
        msg = (
            f"model 'timm' needs the library timm ({error}); install it: pip install "
            "'fedapm-mpi[timm]'"
        )
        raise ConfigError(msg) from error
    (channels, *_), last = one_image("timm", inputs)
    if not library.is_model(model):
        known = library.list_models()
        msg = f"model 'timm': no network {model!r}{did_you_mean(model, known)}"
        raise ConfigError(msg)
    given = options or {}
    taken = [key for key in FIXED if key in given]
    if taken:
        msg = f"model 'timm': options.{taken[0]} cannot be given; leave it out"
        raise ConfigError(msg)
    try:
        module: nn.Module = library.create_model(
            model, pretrained=False, num_classes=num_classes, in_chans=channels, **given
        )
    except (TypeError, ValueError, AssertionError) as error:
        msg = f"model 'timm': cannot build {model!r} ({str(error)[:200]})"
        raise ConfigError(msg) from error
    module.register_forward_pre_hook(ImageInput(0, last, channels))
    return module
