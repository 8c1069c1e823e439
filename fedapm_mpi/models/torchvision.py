"""Networks of torchvision for images: classification, and segmentation."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import InputSpec, check_inputs, models
from fedapm_mpi.models.layers.images import one_image
from fedapm_mpi.models.layers.named_inputs import ImageInput
from fedapm_mpi.registry import did_you_mean

CHANNELS = 3
"""Of the images that these networks take; a grey one is repeated."""


@models.register("torchvision")
def torchvision(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    model: str,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a network of torchvision, such as resnet18 (extra ``torchvision``).

    ``torchvision:MODEL`` is short for this model with that option. Parameters have the
    names that the library gives them. Weights are drawn; ``initial_model`` starts from
    a file of others.

    Parameters
    ----------
    inputs
        One image: (H, W), (C, H, W) or (H, W, C), of one or three channels.
    num_classes
        Number of outputs, or of each pixel for a network that segments.
    model
        Name, as ``torchvision.models.list_models()`` has it.
    options
        Further arguments of the network.

    Raises
    ------
    ConfigError
        If the library is not installed, there is no such network, or the input or the
        options do not suit.
    """
    check_inputs("torchvision", inputs, num_classes)
    try:
        from torchvision import models as library
    except (ImportError, RuntimeError) as error:  # one that does not suit torch
        msg = (
            f"model 'torchvision' needs the library torchvision ({error}); install it: "
            "pip install 'fedapm-mpi[torchvision]'"
        )
        raise ConfigError(msg) from error
    (channels, *_), last = one_image("torchvision", inputs)
    if channels not in (1, CHANNELS):
        msg = (
            f"model 'torchvision': input {inputs[0].name!r} has {channels} channels; "
            f"these networks take {CHANNELS}, or a grey image"
        )
        raise ConfigError(msg)
    known = library.list_models()
    if model not in known:
        msg = f"model 'torchvision': no network {model!r}{did_you_mean(model, known)}"
        raise ConfigError(msg)
    # Those that segment would fetch the weights of their first part otherwise.
    fixed: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if not hasattr(library, model):
        fixed["weights_backbone"] = None
    module = _built(library, model, fixed, options or {})
    module.register_forward_pre_hook(ImageInput(0, last, CHANNELS))
    module.register_forward_hook(_outputs)
    return module


def _built(
    library: Any, model: str, fixed: Mapping[str, Any], options: Mapping[str, Any]
) -> nn.Module:
    taken = fixed.keys() & options.keys()
    if taken:
        msg = f"model 'torchvision': options.{min(taken)} cannot be given; leave it out"
        raise ConfigError(msg)
    try:
        module: nn.Module = library.get_model(model, **fixed, **options)
    except (TypeError, ValueError) as error:
        msg = f"model 'torchvision': cannot build {model!r} ({str(error)[:200]})"
        raise ConfigError(msg) from error
    return module


def _outputs(module: nn.Module, args: Any, found: Any) -> Any:
    """Return the outputs themselves of what a network returns."""
    if isinstance(found, Mapping) and isinstance(found.get("out"), Tensor):
        return found["out"]
    return getattr(found, "logits", found)
