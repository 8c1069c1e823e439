"""Mean and mean square of a client's per-sample gradients, where it stands."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.local_objective import EVALUATION_CHUNK, outputs_of
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.optim.local import Block
from fedapm_mpi.tasks import Task

MAX_CHUNK_BYTES = 2**26
"""Bytes that the per-sample gradients of a chunk may take."""


class GradientMoments(NamedTuple):
    """Of the gradients of single samples' losses in a block, in its order."""

    mean: Tensor
    """(d,) float64; the gradient of the mean loss."""

    mean_square: Tensor
    """(d,) float64; the diagonal of the empirical Fisher information of one sample."""

    samples: int
    """How many; without any, both are zero."""


def gradient_moments(
    model: PartitionedModel,
    samples: Samples,
    part: Block = "shared",
    *,
    vectorized: bool = True,
) -> GradientMoments:
    """Return the moments of a client's per-sample gradients in evaluation mode.

    Nothing of the model changes: parameters, gradients, buffers, which parameters are
    trained, and modes are as they were.

    Parameters
    ----------
    model
        The model, whose vectors hold the client's present parameters.
    samples
        The client's samples.
    part
        The block.
    vectorized
        Whether the gradients of a chunk of samples are taken together by ``vmap``,
        where the model allows that; else there is one backward pass for each.

    Raises
    ------
    TrainingError
        If the model's outputs are not of its task.
    """
    place = model.block_slice(part)
    size, n = len(model.gradient[place]), len(samples.targets)
    total = torch.zeros(2, size, dtype=torch.float64, device=model.device)
    if not (n and size):
        return GradientMoments(total[0], total[1], n)
    each = max(1, MAX_CHUNK_BYTES // (size * model.gradient.element_size()))
    with _untouched(model):
        for chunk in samples.chunks(min(each, EVALUATION_CHUNK)):
            found = _together(model, chunk, part) if vectorized else None
            # Model and data decide, so that it is the same on every rank.
            vectorized = found is not None
            parts = [found] if found is not None else _one_by_one(model, chunk, part)
            weights = None if chunk.weights is None else chunk.weights.double()
            for k, rows in enumerate(parts):
                exact = rows.double()
                if weights is not None:
                    own = weights if found is not None else weights[k : k + 1]
                    exact = exact * own[:, None]
                total[0] += exact.sum(0)
                total[1] += exact.square().sum(0)
    total /= n
    return GradientMoments(total[0], total[1], n)


class _SampleLoss(nn.Module):
    """The loss of one sample, as a module whose parameters can be replaced."""

    def __init__(self, module: nn.Module, task: Task, stage: int) -> None:
        super().__init__()
        self.module = module
        self._task, self._stage = task, stage

    def forward(self, inputs: tuple[Tensor, ...], label: Tensor) -> Tensor:
        one = Samples(tuple(x[None] for x in inputs), {}, label[None], self._stage)
        outputs = outputs_of(self.module, one, self._task)
        return self._task.loss(outputs, one.targets, "sum")


def _together(model: PartitionedModel, chunk: Samples, part: Block) -> Tensor | None:
    """Return all samples' gradients, (n, d), or `None` if ``vmap`` cannot."""
    if chunk.lengths:
        return None
    names = {
        "shared": model.shared_names,
        "personal": model.personal_names,
        "both": model.shared_names + model.personal_names,
    }[part]
    known = dict(model.module.named_parameters())
    parameters = {name: known[name].detach() for name in names}
    # Constructing it must not change the mode of the model, which is in evaluation.
    whole = _SampleLoss(model.module, model.task, chunk.stage).eval()

    def loss(
        values: Mapping[str, Tensor], inputs: tuple[Tensor, ...], label: Tensor
    ) -> Tensor:
        named = {f"module.{name}": value for name, value in values.items()}
        found: Tensor = functional_call(whole, named, (inputs, label))
        return found

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            found = vmap(grad(loss), in_dims=(None, 0, 0))(
                parameters, chunk.inputs, chunk.targets
            )
    except (RuntimeError, ValueError, TypeError):
        # Values that decide the course of a forward pass, random numbers, or an
        # operation without a rule. A true fault shows again, sample by sample.
        return None
    rows = [found[name].detach().flatten(1) for name in names]
    return torch.cat(rows, dim=1)


def _one_by_one(
    model: PartitionedModel, chunk: Samples, part: Block
) -> Iterator[Tensor]:
    """Yield the gradient of each sample, (1, d); the next overwrites it."""
    gradient = model.gradient[model.block_slice(part)]
    for one in chunk.chunks(1):
        gradient.zero_()
        loss = model.task.loss(
            outputs_of(model.module, one, model.task), one.targets, "sum"
        )
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        yield gradient[None]


@contextmanager
def _untouched(model: PartitionedModel) -> Iterator[None]:
    """Put the model into evaluation mode, and everything back as it was."""
    modes = [(module, module.training) for module in model.module.modules()]
    trained = [(p, p.requires_grad) for p in model.module.parameters()]
    gradient, buffers = model.gradient.clone(), model.read_buffers()
    model.set_trainable("both")
    model.module.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, wanted in trained:
            parameter.requires_grad_(wanted)
        model.gradient.copy_(gradient)
        model.write_buffers(*buffers)
