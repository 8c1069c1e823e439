"""A module as two flat vectors: its shared and its personal parameters.

The parameters are split by name. All of them are in one flat vector, the shared block
first, and the module's parameters and gradients are views of it: an algorithm works on
vectors, MPI sends them as they are in memory, and nothing is packed or unpacked.
"""

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fedapm_mpi.engine.buffers import (
    buffer_layout,
    changed_buffer,
    count_reals,
    flatten,
    is_float,
    kept_buffers,
    kind_and_shape,
    scatter,
)
from fedapm_mpi.engine.cuda_graphs import CudaGraphCache
from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.tasks import Task
from fedapm_mpi.tasks.classification import Classification


def trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that are trained, by name; others are frozen."""
    return [(n, p) for n, p in module.named_parameters() if p.requires_grad]


SplitRule = Callable[[str, nn.Parameter], bool]
"""Returns whether a parameter is personal, from its name and value."""


def by_patterns(
    names: Sequence[str],
    patterns: Sequence[str],
    kind: Literal["personal", "shared"],
    elsewhere: Collection[str] = (),
) -> set[str]:
    """Return the names that match glob patterns or plain names.

    Raises
    ------
    ConfigError
        If a pattern matches no name, nor any of those `elsewhere`.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched and not any(fnmatchcase(name, pattern) for name in elsewhere):
            msg = (
                f"split: the {kind} pattern {pattern!r} matches no parameter"
                f"{did_you_mean(pattern, list(names))} (parameters: {', '.join(names)})"
            )
            raise ConfigError(msg)
        chosen |= matched
    return chosen


class ParameterInfo(NamedTuple):
    """One row of the table of parameters and buffers."""

    name: str
    shape: tuple[int, ...]
    size: int
    """Numbers in it; a complex one counts twice."""

    block: Literal["shared", "personal", "frozen", "buffer", "counter"]
    clients: int
    """Number of clients whose model has it."""


class PartitionedModel:
    """A module whose parameters and gradients are views of flat vectors.

    Parameters
    ----------
    module
        The network; its parameters must be of one floating dtype. Those that need no
        gradient are frozen: they are neither shared nor personal, and stay as they are.
    personal_names
        Names of the parameters that stay with the client; all others are shared. Either
        may be none.

    Attributes
    ----------
    shared, personal : (d_shared,), (d_personal,)
        The live parameters; writing to them changes the module.
    gradient : (d_shared + d_personal,)
        Gradients of the last backward pass, shared part first.
    task : Task
        What it is trained for: its loss and predictions.
    batching : Batching
        How an epoch of its training is cut into batches.
    draws : bool
        Whether it draws random numbers in evaluation as well.
    buffer_layout : Layout
        Of the module's buffers; it must not change.
    """

    def __init__(self, module: nn.Module, personal_names: set[str]) -> None:
        self.module = module
        named = trainable(module)
        shared = [(n, p) for n, p in named if n not in personal_names]
        personal = [(n, p) for n, p in named if n in personal_names]
        self.shared_names = [n for n, _ in shared]
        self.personal_names = [n for n, _ in personal]
        self._shared = [p for _, p in shared]
        self._personal = [p for _, p in personal]
        self.dtype = _one_dtype(named)
        self.size_shared = sum(p.numel() for p in self._shared)
        self.task: Task = Classification()
        self.batching = Batching()
        self.draws = False
        self.buffer_layout = buffer_layout(module)
        self._flatten_parameters()
        self.graphs = CudaGraphCache(self)
        self.set_trainable("both")

    def _flatten_parameters(self) -> None:
        """Make the parameters views of one vector, and their gradients of another."""
        ordered = self._shared + self._personal
        vector = torch.cat([p.detach().reshape(-1) for p in ordered])
        self.gradient = torch.zeros_like(vector)
        self.shared = vector[: self.size_shared]
        self.personal = vector[self.size_shared :]
        _alias(ordered, vector, self.gradient)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.gradient.device

    def move(self, device: torch.device) -> None:
        """Move the module to a device; its vectors are new tensors there."""
        for parameter in self._shared + self._personal:
            parameter.grad = None
        self.module.to(device)
        self._flatten_parameters()
        self.graphs = CudaGraphCache(self)

    @classmethod
    def from_patterns(
        cls,
        module: nn.Module,
        *,
        personal: Sequence[str] | None = None,
        shared: Sequence[str] | None = None,
        elsewhere: Collection[str] = (),
    ) -> "PartitionedModel":
        """Split by glob patterns of the personal or of the shared parameters' names.

        `elsewhere` are names in other clients' models, which a pattern may match.

        Raises
        ------
        ConfigError
            If not exactly one of both is given, or a pattern matches nothing. An
            empty list is no mistake: that side is empty.
        """
        names = [name for name, _ in trainable(module)]
        if (personal is None) == (shared is None):
            msg = "split: give exactly one of personal, shared"
            raise ConfigError(msg)
        _check_tied(module, personal if personal is not None else shared or ())
        if personal is not None:
            chosen = by_patterns(names, personal, "personal", elsewhere)
        else:
            chosen = set(names) - by_patterns(names, shared or (), "shared", elsewhere)
        return cls(module, chosen)

    @classmethod
    def from_rule(cls, module: nn.Module, rule: SplitRule) -> "PartitionedModel":
        """Split by a rule that returns whether (name, parameter) is personal."""
        chosen = {
            name for name, parameter in trainable(module) if rule(name, parameter)
        }
        return cls(module, chosen)

    @classmethod
    def from_position(
        cls, module: nn.Module, *, first: int = 0, last: int = 0
    ) -> "PartitionedModel":
        """Split by position: the first and the last layers are personal.

        A layer is a module's own parameters, say a weight and its bias; layers come in
        the order in which the module lists them.

        References
        ----------
        Pillutla et al. (2022), Federated learning with partial model personalization,
        ICML: input layers, output layers, or both.

        Raises
        ------
        ConfigError
            If the model has fewer layers.
        """
        layers: dict[str, list[str]] = {}
        for name, _ in trainable(module):
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        if first + last > len(layers):
            msg = (
                f"split: first={first} and last={last} are more than the model's "
                f"{len(layers)} layers ({', '.join(layers)})"
            )
            raise ConfigError(msg)
        ordered = list(layers.values())
        own = ordered[:first] + ordered[len(ordered) - last :]
        return cls(module, {name for layer in own for name in layer})

    def set_trainable(self, part: Literal["shared", "personal", "both"]) -> None:
        """Compute gradients for one part only, and freeze the rest.

        Autograd then does no work for frozen parameters, nor for layers before the
        first trained parameter.
        """
        for parameter in self._shared:
            parameter.requires_grad_(part != "personal")
        for parameter in self._personal:
            parameter.requires_grad_(part != "shared")

    def block_slice(self, part: Literal["shared", "personal", "both"]) -> slice:
        """Return the slice of a part in the flat vector."""
        cut = self.size_shared
        return {
            "shared": slice(0, cut),
            "personal": slice(cut, None),
            "both": slice(None),
        }[part]

    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shared parameters' shapes by name, in the vector's order."""
        pairs = zip(self.shared_names, self._shared, strict=True)
        return {name: tuple(parameter.shape) for name, parameter in pairs}

    def personal_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the personal parameters' shapes by name, in the vector's order."""
        pairs = zip(self.personal_names, self._personal, strict=True)
        return {name: tuple(parameter.shape) for name, parameter in pairs}

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are trained, in the order of the vector."""
        return [*self._shared, *self._personal]

    def sizes(self, block: Literal["shared", "personal"]) -> dict[str, int]:
        """Return the sizes of a block's parameters by name, in the vector's order."""
        pairs = (
            zip(self.shared_names, self._shared, strict=True)
            if block == "shared"
            else zip(self.personal_names, self._personal, strict=True)
        )
        return {name: parameter.numel() for name, parameter in pairs}

    def read_buffers(self) -> tuple[Tensor, Tensor]:
        """Return copies of the float buffers (d_b,) and the integer ones (d_c,).

        A complex number is two of the former, its real and its imaginary part.
        """
        floats, counters = self._buffers()
        return flatten(floats, self.dtype), flatten(counters, torch.int64)

    def write_buffers(self, floats: Tensor, counters: Tensor) -> None:
        """Set the module's buffers from flat vectors of `read_buffers`' shapes."""
        for buffers, values in zip(self._buffers(), (floats, counters), strict=True):
            scatter(buffers, values)

    def _buffers(self) -> tuple[list[Tensor], list[Tensor]]:
        # Looked up each time, since a module may replace a buffer.
        named = kept_buffers(self.module, self.buffer_layout)
        layout = {name: kind_and_shape(b) for name, b in named}
        if layout != self.buffer_layout:
            raise TrainingError(changed_buffer(self.buffer_layout, layout))
        return (
            [b for _, b in named if is_float(b)],
            [b for _, b in named if not is_float(b)],
        )

    def table(self, clients: int) -> list[ParameterInfo]:
        """Return one row for each parameter and buffer, in the module's order.

        `clients` is the number of clients with this model.
        """
        blocks: dict[str, Literal["shared", "personal"]] = {
            **dict.fromkeys(self.shared_names, "shared"),
            **dict.fromkeys(self.personal_names, "personal"),
        }
        rows = [
            ParameterInfo(
                name,
                tuple(p.shape),
                count_reals(p),
                blocks.get(name, "frozen"),
                clients,
            )
            for name, p in self.module.named_parameters()
        ]
        for name, b in kept_buffers(self.module, self.buffer_layout):
            block: Literal["buffer", "counter"]
            block = "buffer" if is_float(b) else "counter"
            rows.append(
                ParameterInfo(name, tuple(b.shape), count_reals(b), block, clients)
            )
        return rows


def _check_tied(module: nn.Module, patterns: Sequence[str]) -> None:
    """Raise `ConfigError` where patterns match a tied parameter by its second name.

    Only its first name counts, so that they would miss it without an error.
    """
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(parameter), name)
        means, meant = (
            any(fnmatchcase(n, pattern) for pattern in patterns) for n in (name, known)
        )
        if means and not meant:
            msg = (
                f"split: {name!r} is the same parameter as {known!r}, under which it "
                "counts; name that in the pattern, too, or untie them"
            )
            raise ConfigError(msg)


def _one_dtype(named: list[tuple[str, nn.Parameter]]) -> torch.dtype:
    if not named:
        msg = (
            "the model has no parameter that is trained (with requires_grad), so there "
            "is nothing to train"
        )
        raise ConfigError(msg)
    first, parameter = named[0]
    for name, other in named:
        if other.dtype != parameter.dtype:
            msg = (
                f"the model mixes dtypes ({first} is {parameter.dtype}, {name} is "
                f"{other.dtype}); make all parameters one dtype"
            )
            raise ConfigError(msg)
    return parameter.dtype


def _alias(parameters: list[nn.Parameter], vector: Tensor, gradient: Tensor) -> None:
    start = 0
    for parameter in parameters:
        stop = start + parameter.numel()
        parameter.data = vector[start:stop].view(parameter.shape)
        parameter.grad = gradient[start:stop].view(parameter.shape)
        start = stop
