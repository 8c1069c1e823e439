"""Check the tensors of a new model, and cast them to the run's dtype."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fedapm_mpi.errors import ConfigError

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
"""The complex type of each real one."""


def tensors_of(module: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Yield kind ("parameter" or "buffer"), name and value of a module's tensors."""
    for name, parameter in module.named_parameters():
        yield "parameter", name, parameter
    for name, buffer in module.named_buffers():
        yield "buffer", name, buffer


def check_tensors(module: nn.Module) -> None:
    """Raise `ConfigError` for the first tensor that a client's state cannot hold."""
    for kind, name, tensor in tensors_of(module):
        fault = _fault(kind, tensor)
        if fault:
            msg = f"the {kind} {name!r} {fault}"
            raise ConfigError(msg)
    _check_overlaps(module)
    if not any(p.requires_grad for p in module.parameters()):
        has = "no trained parameter (all are frozen)"
        if not any(True for _ in module.parameters()):
            has = "no parameter"
        msg = f"the model has {has}, so there is nothing to train"
        raise ConfigError(msg)


def check_distinct(modules: Sequence[nn.Module], names: Sequence[str]) -> None:
    """Raise `ConfigError` where two groups' models have a parameter object in common.

    Each group's model is overwritten with its clients' values in turn, so a factory
    must not return the same module, or parts of it, twice.
    """
    owner: dict[int, str] = {}
    for module, group in zip(modules, names, strict=True):
        for name, parameter in module.named_parameters():
            first = owner.setdefault(id(parameter), group)
            if first != group:
                msg = (
                    f"the models of {first} and {group} are one object (parameter "
                    f"{name!r}); the factory must build a new module at each call"
                )
                raise ConfigError(msg)


def cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast a module's floating tensors to `dtype`, complex ones to the same precision.

    Integers and booleans keep their type. `nn.Module.to` would make complex ones real.
    """
    fitting = COMPLEX[dtype]

    def convert(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.resolve_conj().resolve_neg().to(fitting)
        if tensor.is_floating_point():
            return tensor.resolve_neg().to(dtype)
        return tensor

    module._apply(convert)  # type: ignore[no-untyped-call]
    return module


def _fault(kind: str, tensor: Tensor) -> str | None:
    """Return what is wrong with a tensor, to follow its name in a sentence."""
    if is_lazy(tensor):
        return (
            "has no shape yet (it is of a lazy module); give its module the number of "
            "features, or call the model once in its factory"
        )
    if tensor.is_meta:
        return 'has no values (device "meta"); build it on the CPU'
    if tensor.device.type != "cpu":
        return (
            f"is on {tensor.device}; the factory must leave it on the CPU, device: "
            "cuda moves it"
        )
    if tensor.is_nested or tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        what = "nested" if tensor.is_nested else f"sparse ({layout})"
        return f"is {what}; make it a dense tensor, for example by to_dense()"
    if tensor.is_quantized:
        return (
            f"is quantized ({tensor.dtype}); keep its integers and its scale as two "
            "buffers"
        )
    if kind == "parameter" and tensor.requires_grad and tensor.is_complex():
        return (
            "is complex, and trained parameters must be real; make it two real "
            "parameters and join them in forward by torch.complex(real, imaginary), "
            "or freeze it (requires_grad=False)"
        )
    return None


def _check_overlaps(module: nn.Module) -> None:
    """Raise `ConfigError` where parameters are two objects with memory in common.

    Each would be trained separately. (One object under two names is one parameter.)
    """
    spans = sorted(
        (p.data_ptr(), p.data_ptr() + p.numel() * p.element_size(), name)
        for name, p in module.named_parameters()
        if p.requires_grad and p.numel() and p.is_contiguous()
    )
    for (_, stop, first), (begin, _, second) in pairwise(spans):
        if begin < stop:
            msg = (
                f"the parameters {first!r} and {second!r} share memory but are two "
                "objects; to tie them, use one nn.Parameter under both names"
            )
            raise ConfigError(msg)
