"""Inputs as a module of another library takes them: by name, with masks, as images."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedapm_mpi.models.base import InputSpec
from fedapm_mpi.models.layers.padding import valid_mask

MASK = "attention_mask"
"""Parameter of ``forward`` that says which tokens of a padded text are there."""


class NamedInputs:
    """A hook before ``forward`` that passes the inputs by name, and lengths as a mask.

    Parameters
    ----------
    names
        Parameter of ``forward`` for each input, in the order of the data set.
    masked
        Input whose lengths make the mask, and its place; `None` for no mask.
    """

    def __init__(
        self, names: Sequence[str], masked: tuple[str, int] | None = None
    ) -> None:
        self.names = tuple(names)
        self.masked = masked

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what ``forward`` is called with."""
        if len(args) != len(self.names):
            return args, kwargs  # called by other code, in its own way
        given = dict(kwargs)
        lengths = given.pop("lengths", None)
        found = dict(zip(self.names, args, strict=True))
        if self.masked is not None and lengths is not None:
            name, place = self.masked
            inside = valid_mask(lengths[name], args[place].shape[1])
            found[MASK] = inside.to(torch.int64)
        return (), found | given


class ImageInput:
    """A hook before ``forward`` that turns one input into ``(n, C, H, W)``.

    Parameters
    ----------
    place
        Of the input among the arguments.
    channels_last
        Whether it comes as ``(n, H, W, C)``.
    channels
        Number C that the module takes; a grey image is repeated.
    """

    def __init__(self, place: int, channels_last: bool, channels: int) -> None:
        self.place, self.channels_last = place, channels_last
        self.channels = channels

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of ``forward``."""
        if self.place >= len(args):
            return args
        image: Tensor = args[self.place]
        if image.ndim == 3:
            image = image[:, None]
        elif self.channels_last:
            image = image.movedim(-1, 1).contiguous()
        if image.shape[1] == 1 < self.channels:
            image = image.expand(-1, self.channels, -1, -1)
        return (*args[: self.place], image, *args[self.place + 1 :])


def parameters_of(module: nn.Module) -> tuple[str, ...]:
    """Return the names that ``forward`` takes, without catch-alls."""
    try:
        found = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # compiled code may have no signature
        return ()
    catch_alls = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    only_by_place = inspect.Parameter.POSITIONAL_ONLY
    return tuple(p.name for p in found if p.kind not in (*catch_alls, only_by_place))


def pass_by_name(
    module: nn.Module,
    inputs: Sequence[InputSpec],
    names: Mapping[str, str] | None = None,
) -> None:
    """Let a module be called with inputs by place, and get them by name.

    Parameters
    ----------
    module
        Its ``forward`` takes every name.
    inputs
        The inputs of the data set.
    names
        Parameter of ``forward`` for each input; by default of the same name.
    """
    wanted = [(names or {}).get(spec.name, spec.name) for spec in inputs]
    ragged = [(s.name, k) for k, s in enumerate(inputs) if s.ragged]
    masked = None
    if MASK in parameters_of(module) and MASK not in wanted:
        # The mask is that of the tokens where several inputs are ragged.
        tokens = [one for one in ragged if inputs[one[1]].codes]
        masked = next(iter(tokens or ragged), None)
    module.register_forward_pre_hook(NamedInputs(wanted, masked), with_kwargs=True)


def needs_names(module: nn.Module, inputs: Sequence[InputSpec]) -> bool:
    """Return whether inputs by place would not be what a module's ``forward`` takes.

    That is so where its parameters have the names of all inputs, and either stand in
    another order, or do not include ``lengths`` and some input is ragged.
    """
    known = parameters_of(module)
    names = [spec.name for spec in inputs]
    if not set(names) <= set(known):
        return False
    in_order = list(known[: len(names)]) == names
    lengths = any(spec.ragged for spec in inputs) and "lengths" not in known
    return lengths or not in_order
