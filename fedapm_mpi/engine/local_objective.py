"""A client's local objective: its training loss and gradients at two flat vectors."""

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Any, Literal

import torch
from numpy.random import Generator
from torch import Tensor, nn

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.device import autocast, seed_dropout
from fedapm_mpi.engine.feature_cache import (
    forward_rest,
    forward_stages,
    frozen_features,
    frozen_stages,
    stages_of,
)
from fedapm_mpi.engine.model_outputs import checked_outputs
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.models.base import Stage
from fedapm_mpi.optim.local import Block, LocalBudget
from fedapm_mpi.optim.solver import LocalSolver
from fedapm_mpi.tasks import Task
from fedapm_mpi.tasks.base import weighted_loss
from fedapm_mpi.utils.rng import Purpose, generator, torch_seed

PHASES = ("personal", "shared", "joint")
"""The phases of local training; a phase's index addresses its random stream, so the
order is frozen."""

EVALUATION_CHUNK = 500
"""Samples in a pass at most, where only memory limits them."""


class LocalObjective:
    r"""The training loss :math:`f_i` of one client in one round.

    The order of samples comes from ``generator(seed, "batches", round, client, phase)``
    and dropout from a seed of the same address, so that nothing depends on the rank or
    the order in which clients are trained.

    Parameters
    ----------
    model
        The rank's one model; its live vectors are used, and overwritten.
    samples
        The client's training samples.
    seed, round_index, client
        Address of the randomness.
    purpose
        What the objective is for; each purpose has its own order of samples.
    bf16
        Whether training passes run under torch's autocast to bfloat16.
    solver
        How the client steps; by default by plain SGD.

    Attributes
    ----------
    shared, personal
        The live vectors of `model`.
    loss_count
        Number of samples that the last phase processed.
    solver
        How the client steps.
    """

    def __init__(
        self,
        model: PartitionedModel,
        samples: Samples,
        *,
        seed: int,
        round_index: int,
        client: int,
        purpose: Literal["batches", "personalise"] = Purpose.BATCHES,
        bf16: bool = False,
        solver: LocalSolver | None = None,
    ) -> None:
        self.model = model
        self.samples = samples
        self.shared, self.personal = model.shared, model.personal
        self._location = f"client {client}, round {round_index + 1}"
        self._address = (seed, purpose, round_index, client)
        self._streams: dict[str, Generator] = {}
        self._loss_sum: float | Tensor = 0.0
        self.loss_count = 0
        self.solver = LocalSolver() if solver is None else solver
        self._bf16 = bf16
        self._batch_size = 0
        self._phase = ""
        self._cache_chunk = 0
        self._features: Tensor | None = None
        self._rest: list[Stage] = []
        training = purpose == Purpose.BATCHES
        dropout = Purpose.DROPOUT if training else Purpose.DROPOUT_PERSONALIZE
        seed_dropout(model.device, torch_seed(seed, dropout, round_index, client))

    def batches(
        self,
        phase: Literal["personal", "shared", "joint"],
        work: LocalBudget,
        size: int,
    ) -> Iterator[Tensor]:
        """Yield row indices of mini-batches; see `Objective.batches`."""
        n = len(self.samples.targets)
        if n == 0:
            return
        if phase != self._phase:
            self._phase, self._loss_sum, self.loss_count = phase, 0.0, 0
        self._begin("both" if phase == "joint" else phase)
        epochs, steps = work.epochs or work.max_epochs, work.steps
        passes = epochs or (steps or 0) * (size or n) / n
        self._features = None
        self._cache_chunk = min(size or n, EVALUATION_CHUNK) if passes > 1 else 0
        self._batch_size = size or n
        sizes = self.model.batching.sizes(n, size)
        used = sum(sizes)
        done_epochs = done_steps = 0
        while epochs is None or done_epochs < epochs:
            order = torch.from_numpy(self._stream(phase).permutation(n))
            order = order.to(self.model.device)
            for rows in torch.split(order[:used], sizes):
                if steps is not None and done_steps == steps:
                    self._check(self.loss_sum)
                    return
                yield rows
                done_steps += 1
            done_epochs += 1
        self._check(self.loss_sum)

    def _begin(self, block: Block) -> None:
        """Make the model ready for the passes of a phase."""
        self.model.set_trainable(block)
        self.model.module.train()

    def load_model(self) -> None:
        """Set the rank's model to the live vectors, where these are not its own."""

    def num_batches(self, work: LocalBudget, size: int) -> int:
        """Return how many mini-batches `batches` yields at most for a budget."""
        per_epoch = len(self.model.batching.sizes(len(self.samples.targets), size))
        epochs = work.epochs or work.max_epochs
        if epochs is not None:
            return epochs * per_epoch
        return (work.steps or 0) if per_epoch else 0

    def _stream(self, phase: str) -> Generator:
        if phase not in self._streams:
            self._streams[phase] = generator(*self._address, PHASES.index(phase))
        return self._streams[phase]

    @property
    def loss_sum(self) -> float:
        """Sum of the last phase's training losses over samples."""
        return float(self._loss_sum)

    def gradient(self, part: Block, batch: Tensor) -> Tensor:
        """Return the gradient of a batch's mean loss; see `Objective.gradient`."""
        self._cache_features(part)
        if self._can_capture(part, batch):
            self.count(self._replay(part, batch), len(batch))
        else:
            targets = self.samples.targets.index_select(0, batch)
            weights = self.samples.weights
            loss = self._differentiate(
                part,
                lambda: self._forward(part, batch),
                targets,
                None if weights is None else weights.index_select(0, batch),
            )
            self.count(loss, len(batch))
        return self.model.gradient[self.model.block_slice(part)]

    def _differentiate(
        self,
        part: Block,
        returned: Callable[[], Any],
        targets: Tensor,
        weights: Tensor | None,
    ) -> Tensor:
        """Return the loss of a pass, and set the model's gradient vector."""
        self.model.gradient[self.model.block_slice(part)].zero_()
        with autocast(self.model.device, enabled=self._bf16):
            outputs = checked_outputs(returned(), targets.shape[0], self.model.task)
        loss = weighted_loss(
            self.model.task, outputs.to(self.model.dtype), targets, weights
        )
        if not loss.requires_grad:
            msg = (
                f"none of the {self.model.task.outputs} depends on a {part} parameter "
                f"({self._location}), so there is nothing to train; look at the split, "
                "or at the model's forward"
            )
            raise TrainingError(msg)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def count(self, loss: Tensor | float, samples: int) -> None:
        """Add a batch's mean loss; on a GPU it is checked at the end of the phase."""
        on_gpu = isinstance(loss, Tensor) and loss.is_cuda
        value = loss.double() if on_gpu else float(loss)  # type: ignore[union-attr]
        if isinstance(value, float):
            self._check(value)
        self._loss_sum = self._loss_sum + value * samples
        self.loss_count += samples

    def _check(self, loss: float) -> None:
        if not isfinite(loss):
            msg = (
                f"the training loss is {loss} ({self._location}, {self._phase} phase); "
                "lower the learning rate or the penalty, or look at the client's data"
            )
            raise TrainingError(msg)

    def _is_trained(self, part: Block) -> bool:
        return part == {"joint": "both"}.get(self._phase, self._phase)

    def _cache_features(self, part: Block) -> None:
        """Compute the features of frozen stages, once in a phase."""
        if not (self._cache_chunk and self._is_trained(part)):
            return
        frozen, self._rest = frozen_stages(self.model.module)
        if frozen:
            with autocast(self.model.device, enabled=self._bf16):
                self._features = frozen_features(
                    frozen, self.samples, self._cache_chunk
                )
        self._cache_chunk = 0

    def _forward(self, part: Block, batch: Tensor) -> Any:
        """Return the model's outputs for a batch, from cached features if any."""
        if self._features is not None and self._is_trained(part):
            return forward_rest(self._rest, self._features.index_select(0, batch))
        rows = self.samples.rows(batch)
        if rows.stage:
            return forward_stages(stages_of(self.model.module), rows)
        return _call_module(self.model.module, rows)

    def _can_capture(self, part: Block, batch: Tensor) -> bool:
        """Return whether a pass may be captured in a CUDA graph.

        It must be one of many of the same shape, of a model that declares its stages:
        such a model guarantees that only torch's own layers are random in it.
        """
        return (
            batch.is_cuda
            and self.model.task.graph_safe
            and len(batch) == self._batch_size
            and self._is_trained(part)
            and not self.samples.lengths
            and bool(stages_of(self.model.module))
        )

    def _replay(self, part: Block, batch: Tensor) -> Tensor:
        """Return the loss of a full batch by replaying a captured pass."""
        features, rest = self._features, self._rest
        inputs = self.samples.inputs if features is None else (features,)
        stage, every = self.samples.stage, stages_of(self.model.module)

        weighted = self.samples.weights is not None

        def body(rows: Sequence[Tensor]) -> Tensor:
            *own, targets = rows
            weights = own.pop() if weighted else None
            found = Samples(tuple(own), {}, targets, stage)
            if features is None:
                return self._differentiate(
                    part, lambda: forward_stages(every, found), targets, weights
                )
            return self._differentiate(
                part, lambda: forward_rest(rest, own[0]), targets, weights
            )

        shapes = tuple((x.shape[1:], x.dtype) for x in inputs)
        kind = (part, len(batch), stage, len(rest) if features is not None else None)
        weights = [] if self.samples.weights is None else [self.samples.weights]
        sources = [*inputs, *weights, self.samples.targets]
        key = (*kind, shapes, weighted, self._bf16)
        return self.model.graphs.run(key, body, sources, batch)

    def full_gradient(self, part: Block) -> Tensor:
        """Return the gradient of the mean loss over all samples, without dropout."""
        gradient = self.model.gradient[self.model.block_slice(part)]
        gradient.zero_()
        self.model.set_trainable(part)
        self.model.module.eval()
        n = len(self.samples.targets)
        for chunk in self.samples.chunks(EVALUATION_CHUNK):
            outputs = outputs_of(self.model.module, chunk, self.model.task)
            loss = weighted_loss(
                self.model.task, outputs, chunk.targets, chunk.weights, "sum"
            )
            (loss / n).backward()  # type: ignore[no-untyped-call]
        self.model.module.train()
        return gradient


def outputs_of(module: nn.Module, samples: Samples, task: Task) -> Tensor:
    """Return the module's outputs, (n, outputs); class scores (n, K), for example.

    Raises
    ------
    TrainingError
        If it returns something else; see `checked_outputs`.
    """
    if samples.stage:
        result = forward_stages(stages_of(module), samples)
    else:
        result = _call_module(module, samples)
    return checked_outputs(result, samples.targets.shape[0], task)


def _call_module(module: nn.Module, samples: Samples) -> Any:
    """Return a module's output for samples, of whatever type."""
    if samples.lengths:
        return module(*samples.inputs, lengths=samples.lengths)
    return module(*samples.inputs)
