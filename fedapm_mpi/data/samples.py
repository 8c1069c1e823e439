"""A client's samples as tensors, in the form that models and losses take."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.data.number_types import BFLOAT16
from fedapm_mpi.data.target import ABSENT
from fedapm_mpi.utils.alignment import usable


class Samples(NamedTuple):
    """Samples of one client in one split."""

    inputs: tuple[Tensor, ...]
    """Each (n, *shape), in the manifest's order: floating, complex, or int64 codes."""

    lengths: dict[str, Tensor]
    """True lengths (n,) int64 of the ragged inputs, by name."""

    targets: Tensor
    """(n,) int64 labels. Where the data set has targets, these: (n, k) floating, NaN
    where a sample lacks one, or (n, *shape) int64 classes if they are dense."""

    stage: int = 0
    """Number of the model's stages that have been applied to the inputs, which are then
    one tensor; see `engine.feature_cache`."""

    weights: Tensor | None = None
    """(n,) floating weight of each sample in the loss, where the data set has weights.
    Their mean over the client's samples of the split is 1, so the mean of weighted
    losses is the weighted mean of losses, and that of a batch has it as expectation."""

    def rows(self, index: Tensor) -> "Samples":
        """Return the samples at the given rows."""
        return Samples(
            tuple(x.index_select(0, index) for x in self.inputs),
            {name: n.index_select(0, index) for name, n in self.lengths.items()},
            self.targets.index_select(0, index),
            self.stage,
            None if self.weights is None else self.weights.index_select(0, index),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as named tensors; see `of_tensors`."""
        inputs = {f"input {k}": x for k, x in enumerate(self.inputs)}
        lengths = {f"length {name}": n for name, n in self.lengths.items()}
        rest = {"targets": self.targets, "stage": torch.tensor(self.stage)}
        weights = {} if self.weights is None else {"weights": self.weights}
        return inputs | lengths | rest | weights

    @classmethod
    def of_tensors(cls, named: Mapping[str, Tensor]) -> "Samples":
        """Return samples from what `tensors` returned."""
        count = sum(name.startswith("input ") for name in named)
        return cls(
            tuple(named[f"input {k}"] for k in range(count)),
            {
                name.removeprefix("length "): tensor
                for name, tensor in named.items()
                if name.startswith("length ")
            },
            named["targets"],
            int(named["stage"]),
            named.get("weights"),
        )

    def to(self, device: torch.device) -> "Samples":
        """Return the samples on a device; no copy if they are on it."""
        return Samples(
            tuple(x.to(device) for x in self.inputs),
            {name: n.to(device) for name, n in self.lengths.items()},
            self.targets.to(device),
            self.stage,
            None if self.weights is None else self.weights.to(device),
        )

    def chunks(self, size: int) -> list["Samples"]:
        """Return the samples in order, in chunks of at most `size`."""
        order = torch.arange(len(self.targets), device=self.targets.device)
        return [self.rows(index) for index in torch.split(order, size) if len(index)]


class StoredInput(Protocol):
    """What the conversion of stored values needs of an input."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def scale(self) -> float: ...  # noqa: D102
    @property
    def shift(self) -> float: ...  # noqa: D102
    @property
    def codes(self) -> int: ...  # noqa: D102
    @property
    def complex(self) -> bool: ...  # noqa: D102


class StoredTarget(Protocol):
    """What the size of targets needs of their description."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def stored_shape(self) -> tuple[int, ...]: ...  # noqa: D102


class StoredSamples(Protocol):
    """The samples of a client as stored in a shard."""

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]: ...  # noqa: D102
    @property
    def lengths(self) -> Mapping[str, NDArray[Any]]: ...  # noqa: D102
    @property
    def labels(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def target(self) -> NDArray[Any] | None: ...  # noqa: D102
    @property
    def weights(self) -> NDArray[np.float64] | None: ...  # noqa: D102


def to_samples(
    stored: StoredSamples, inputs: Sequence[StoredInput], dtype: torch.dtype
) -> Samples:
    """Return these inputs of stored samples: values are ``stored * scale + shift``.

    Codes and dense targets, whose types are integers, stay integers. Complex inputs
    have the complex type of the precision of `dtype`.

    Every tensor, a copy or the stored array itself, begins at a multiple of `ALIGNMENT`
    bytes. So its alignment, and with it the bits of a matrix product, is the same on
    every rank.
    """
    targets = _as_tensor(stored.labels, torch.int64)
    if stored.target is not None:
        dense = stored.target.dtype.kind == "i"
        targets = _as_tensor(stored.target, torch.int64 if dense else dtype)
        if stored.target.dtype == np.uint8 and (stored.target == ABSENT).any():
            targets = targets.masked_fill(targets == ABSENT, torch.nan)
    return Samples(
        tuple(_scaled(stored.inputs[spec.name], spec, dtype) for spec in inputs),
        {
            spec.name: _as_tensor(stored.lengths[spec.name], torch.int64)
            for spec in inputs
            if spec.name in stored.lengths
        },
        targets,
        weights=None if stored.weights is None else _relative(stored.weights, dtype),
    )


def _relative(weights: NDArray[np.float64], dtype: torch.dtype) -> Tensor:
    """Return weights with mean 1."""
    mean = weights.mean() if len(weights) else 1.0
    return _own(weights / mean, dtype)


def tensor_bytes(
    inputs: Sequence[StoredInput],
    target: StoredTarget | None,
    dtype: torch.dtype,
    weights: bool = False,
) -> list[int]:
    """Return the bytes of a sample in each of its tensors, in a run's dtype.

    These are the inputs, the targets and, where there are such, the weights; true
    lengths are not counted.
    """
    found = [
        math.prod(spec.shape)
        * (8 if spec.codes else dtype.itemsize * (1 + spec.complex))
        for spec in inputs
    ]
    found += [dtype.itemsize] * weights
    if target is None:
        return [*found, 8]
    each = 8 if target.kind == "dense" else dtype.itemsize
    return [*found, math.prod(target.stored_shape) * each]


def _as_tensor(values: NDArray[Any], dtype: torch.dtype) -> Tensor:
    if usable(values):
        stored = torch.from_numpy(values)
        if stored.dtype == dtype:
            return stored
    return _own(values, dtype)


def _own(values: NDArray[Any], dtype: torch.dtype) -> Tensor:
    tensor = torch.empty(values.shape, dtype=dtype)
    return tensor.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def _scaled(values: NDArray[Any], spec: StoredInput, dtype: torch.dtype) -> Tensor:
    if spec.codes:
        return _as_tensor(values, torch.int64)
    if spec.dtype == BFLOAT16:  # NumPy has the bits only
        bits = torch.from_numpy(values.view(np.int16))
        tensor = torch.empty(bits.shape, dtype=dtype).copy_(bits.view(torch.bfloat16))
    elif spec.scale == 1 and spec.shift == 0:
        tensor = _as_tensor(values, dtype)
    else:
        tensor = _own(values, dtype)
    if spec.scale != 1:
        tensor.mul_(spec.scale)
    if spec.shift != 0:
        tensor.add_(spec.shift)
    return torch.view_as_complex(tensor) if spec.complex else tensor
