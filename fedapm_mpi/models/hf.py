"""Models of the library transformers, from a configuration or a saved folder."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import InputSpec, check_inputs, describe, models
from fedapm_mpi.models.layers.images import image_layout
from fedapm_mpi.models.layers.named_inputs import (
    ImageInput,
    parameters_of,
    pass_by_name,
)
from fedapm_mpi.registry import did_you_mean

HEADS = {
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "causal-lm": "AutoModelForCausalLM",
    "image": "AutoModelForImageClassification",
}
"""Class of the library that puts each head on a network."""

Head = Literal["auto", "sequence", "token", "causal-lm", "image"]


@models.register("hf")
def hf(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    model: str,
    head: Head = "auto",
    config: dict[str, Any] | None = None,
    names: dict[str, str] | None = None,
    pretrained: bool = False,
    download: bool = False,
) -> nn.Module:
    """Build a network of Hugging Face's transformers (extra ``transformers``).

    ``hf:MODEL`` is short for this model with that option. Parameters have the names
    that the library gives them. Inputs are passed by name: one of codes as
    ``input_ids``, an image as ``pixel_values``, any whose name ``forward`` takes as it
    is; the lengths of a ragged input become the attention mask.

    Parameters
    ----------
    inputs
        One or several; see `names`.
    num_classes
        Number of outputs; of ``causal-lm``, the size of the vocabulary.
    model
        A kind that the library knows, such as ``bert`` or ``gpt2``; a folder in which a
        model or its configuration was saved (``save_pretrained``), written with a
        slash, such as ``./saved``; or a name on the hub, ``owner/name``.
    head
        What the outputs are: ``sequence``, one for each text; ``token``, at each token;
        ``causal-lm``, of the next token at each; ``image``, one for each image. By
        default ``sequence`` or ``image``, by the inputs.
    config
        Values of the model's configuration that differ from its own.
    names
        Parameter of ``forward`` for inputs whose names it does not take.
    pretrained
        Whether to start with the weights in the folder (safetensors), not with drawn
        ones. A head of another size is drawn.
    download
        Whether what is not here may be fetched from the hub, by every rank, into the
        library's own cache.

    Raises
    ------
    ConfigError
        If the library is not installed, there is no such model, or the inputs or the
        options do not suit.
    """
    check_inputs("hf", inputs, num_classes, codes=True)
    with _quiet_library() as library:
        found = _head(head, inputs)
        settings = _settings(library, model, config or {}, download)
        if not pretrained:
            _fit(settings, found, inputs, num_classes, config or {})
        _set_outputs(settings, found, num_classes)
        module = _build(library, HEADS[found], settings, model, pretrained, download)
    _connect(module, inputs, names or {}, settings)
    return module


@contextmanager
def _quiet_library() -> Iterator[Any]:
    """Import transformers; only what goes wrong is printed while it is used."""
    try:
        import transformers
    except ImportError as error:
        msg = (
            f"model 'hf' needs the library transformers ({error}); install it: pip "
            "install 'fedapm-mpi[transformers]'"
        )
        raise ConfigError(msg) from error
    logging: Any = transformers.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _head(head: Head, inputs: tuple[InputSpec, ...]) -> str:
    if head == "auto":
        return "sequence" if any(spec.codes for spec in inputs) else "image"
    if head not in HEADS:
        known = ", ".join(("auto", *HEADS))
        msg = f"model 'hf': head is {head!r}{did_you_mean(head, list(HEADS))} ({known})"
        raise ConfigError(msg)
    return head


def _settings(
    library: Any, model: str, changes: Mapping[str, Any], download: bool
) -> Any:
    """Return the configuration of a model, with what the user changes."""
    auto = library.AutoConfig
    kinds = library.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    try:
        if "/" not in model:
            base = auto.for_model(model)
        else:
            base = auto.from_pretrained(model, local_files_only=not download)
        _check_keys(base, changes)
        return type(base).from_dict({**base.to_dict(), **changes})
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        msg = f"model 'hf': {_unknown(model, list(kinds), download)}"
        if "/" in model:
            msg += f" ({_first_line(error)})"
        raise ConfigError(msg) from error


def _unknown(model: str, kinds: list[str], download: bool) -> str:
    if "/" not in model:
        near = did_you_mean(model, kinds) or f"; a folder is written ./{model}"
        return f"transformers knows no kind of model {model!r}{near}"
    asked = "" if download else "; download: true asks the hub for it"
    return (
        f"{model!r} is no folder with a saved configuration, and not in the library's "
        f"cache{asked}"
    )


def _check_keys(base: Any, changes: Mapping[str, Any]) -> None:
    """Refuse keys that the library would keep without using them."""
    known = sorted({*base.to_dict(), *base.attribute_map, "num_labels"})
    for key in changes:
        if key not in known:
            msg = (
                f"model 'hf': config.{key} is no value of a {base.model_type} "
                f"configuration{did_you_mean(key, known)}"
            )
            raise ConfigError(msg)
    if "num_labels" in changes or "use_cache" in changes:
        msg = (
            "model 'hf': config.num_labels and config.use_cache follow from the data "
            "set and the training; leave them out"
        )
        raise ConfigError(msg)


def _fit(
    settings: Any,
    head: str,
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    given: Mapping[str, Any],
) -> None:
    """Set sizes that follow from the data set, unless the user gives them."""
    codes = max((spec.codes for spec in inputs), default=0)
    sizes: dict[str, Any] = {}
    if codes or head == "causal-lm":
        sizes["vocab_size"] = num_classes if head == "causal-lm" else codes
        # Those of the vocabulary that a kind of model was published with.
        for special in ("pad", "bos", "eos", "sep", "cls"):
            key = f"{special}_token_id"
            number = getattr(settings, key, None)
            if isinstance(number, int) and number >= sizes["vocab_size"]:
                sizes[key] = None
    elif len(inputs) == 1 and len(inputs[0].shape) in (2, 3):
        channels, height, width = image_layout("hf", inputs[0])[0]
        sizes["num_channels"] = channels
        sizes["image_size"] = height if height == width else [height, width]
    for key, value in sizes.items():
        if key not in given and hasattr(settings, key):
            setattr(settings, key, value)


def _set_outputs(settings: Any, head: str, num_classes: int) -> None:
    settings.use_cache = False
    if head != "causal-lm":
        settings.num_labels = num_classes
    elif settings.vocab_size != num_classes:
        msg = (
            f"model 'hf': its vocabulary has {settings.vocab_size} tokens, but the "
            f"data set {num_classes}; prepare the data with the model's tokenizer"
        )
        raise ConfigError(msg)


def _build(
    library: Any,
    kind: str,
    settings: Any,
    model: str,
    pretrained: bool,
    download: bool,
) -> nn.Module:
    auto = getattr(library, kind)
    try:
        if not pretrained:
            settings.dtype = torch.float32
            module: nn.Module = auto.from_config(settings)
            return module
        module = auto.from_pretrained(
            model,
            config=settings,
            local_files_only=not download,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        start = "with its weights " if pretrained else ""
        msg = f"model 'hf': cannot build {model!r} {start}({_first_line(error)})"
        raise ConfigError(msg) from error
    return module


def _connect(
    module: nn.Module,
    inputs: tuple[InputSpec, ...],
    given: Mapping[str, str],
    settings: Any,
) -> None:
    """Let the module get the inputs under the names that it takes."""
    known = parameters_of(module)
    unknown = [name for name in given if name not in {spec.name for spec in inputs}]
    if unknown:
        msg = (
            f"model 'hf': names.{unknown[0]} names no input"
            f"{did_you_mean(unknown[0], [spec.name for spec in inputs])}"
        )
        raise ConfigError(msg)
    names: dict[str, str] = {}
    for place, spec in enumerate(inputs):
        default = "input_ids" if spec.codes else "pixel_values"
        name = given.get(spec.name, spec.name if spec.name in known else default)
        if name not in known or name in names.values():
            msg = (
                f"model 'hf': it is not clear what input {spec.name!r} is to "
                f"{type(module).__name__} (inputs: {describe(inputs)}); set "
                f"names.{spec.name} to one of {', '.join(known)}"
            )
            raise ConfigError(msg)
        names[spec.name] = name
        if name == "pixel_values":
            (channels, *_), last = image_layout("hf", spec)
            wanted = getattr(settings, "num_channels", channels)
            module.register_forward_pre_hook(ImageInput(place, last, wanted))
    pass_by_name(module, inputs, names)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
