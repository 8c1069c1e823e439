"""A client's local problem: its training loss and gradients at two flat vectors."""

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
from fedapm_mpi.tasks import Task
from fedapm_mpi.utils.rng import Purpose, generator, torch_seed

PHASES = ("personal", "shared", "joint")
"""The phases of local work; a phase's place in it addresses its random stream."""

EVALUATION_CHUNK = 500
"""Samples per pass at most where only memory limits how many."""


class LocalObjective:
    r"""The training loss :math:`f_i` of one client in one round.

    The order of samples comes from ``generator(seed, "batches", round, client, phase)``
    and dropout from a seed addressed likewise, so nothing depends on where or after
    whom a client is trained.

    Parameters
    ----------
    model
        The rank's one model; its live vectors are used, and overwritten.
    samples
        The client's training samples.
    seed, round_index, client
        Address of the randomness.
    purpose
        What it is for: another purpose has another order of samples.
    bf16
        Whether passes in training run in bfloat16 where torch thinks fit.

    Attributes
    ----------
    shared, personal
        The live vectors of `model`.
    loss_count
        How many samples the last phase went over.
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
    ) -> None:
        self.model = model
        self.samples = samples
        self.shared, self.personal = model.shared, model.personal
        self._where = f"client {client}, round {round_index + 1}"
        self._address = (seed, purpose, round_index, client)
        self._streams: dict[str, Generator] = {}
        self._loss_sum: float | Tensor = 0.0
        self.loss_count = 0
        self._bf16 = bf16
        self._full = 0
        self._phase = ""
        self._feature_chunk = 0
        self._features: Tensor | None = None
        self._rest: list[Stage] = []
        self._stages = stages_of(model.module) if samples.stage else []
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
        n = len(self.samples.labels)
        if n == 0:
            return
        if phase != self._phase:
            self._phase, self._loss_sum, self.loss_count = phase, 0.0, 0
        self.model.set_trainable("both" if phase == "joint" else phase)
        self.model.module.train()
        epochs, steps = work.epochs or work.max_epochs, work.steps
        passes = epochs or (steps or 0) * (size or n) / n
        self._features = None
        self._feature_chunk = min(size or n, EVALUATION_CHUNK) if passes > 1 else 0
        self._full = size or n
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
        self._keep_features(part)
        if self._may_record(part, batch):
            self._count(self._replay(part, batch), len(batch))
        else:
            labels = self.samples.labels.index_select(0, batch)
            loss = self._descent(part, lambda: self._pass(part, batch), labels)
            self._count(loss, len(batch))
        return self.model.gradient[self.model.block_slice(part)]

    def _descent(
        self, part: Block, returned: Callable[[], Any], labels: Tensor
    ) -> Tensor:
        """Return the loss of a pass, with its gradient where the model has it."""
        self.model.gradient[self.model.block_slice(part)].zero_()
        with autocast(self.model.device, enabled=self._bf16):
            outputs = checked_outputs(returned(), labels.shape[0], self.model.task)
        loss = self.model.task.loss(outputs.to(self.model.dtype), labels)
        if not loss.requires_grad:
            msg = (
                f"none of the {self.model.task.outputs} depends on a {part} parameter "
                f"({self._where}), so there is nothing to train; look at the split, or "
                "at the model's forward"
            )
            raise TrainingError(msg)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _count(self, loss: Tensor, samples: int) -> None:
        """Add a batch's mean loss; a GPU's is looked at once the phase is over."""
        value = loss.double() if loss.is_cuda else float(loss)
        if isinstance(value, float):
            self._check(value)
        self._loss_sum = self._loss_sum + value * samples
        self.loss_count += samples

    def _check(self, loss: float) -> None:
        if not isfinite(loss):
            msg = (
                f"the training loss is {loss} ({self._where}, {self._phase} phase); "
                "lower the learning rate or the penalty, or look at the client's data"
            )
            raise TrainingError(msg)

    def _in_focus(self, part: Block) -> bool:
        return part == {"joint": "both"}.get(self._phase, self._phase)

    def _keep_features(self, part: Block) -> None:
        """Compute what frozen stages make of the samples, once in a phase."""
        if not (self._feature_chunk and self._in_focus(part)):
            return
        frozen, self._rest = frozen_stages(self.model.module)
        if frozen:
            with autocast(self.model.device, enabled=self._bf16):
                self._features = frozen_features(
                    frozen, self.samples, self._feature_chunk
                )
        self._feature_chunk = 0

    def _pass(self, part: Block, batch: Tensor) -> Any:
        """Return what a batch gives, from features of frozen stages if kept."""
        if self._features is not None and self._in_focus(part):
            return forward_rest(self._rest, self._features.index_select(0, batch))
        rows = self.samples.rows(batch)
        if rows.stage:
            return forward_stages(self._stages, rows)
        return _call(self.model.module, rows)

    def _may_record(self, part: Block, batch: Tensor) -> bool:
        """Return whether a pass is one of many alike, of a model that tells its stages.

        Such a model vouches that nothing but torch's own layers is random in it.
        """
        return (
            batch.is_cuda
            and self.model.task.graph_safe
            and len(batch) == self._full
            and self._in_focus(part)
            and not self.samples.lengths
            and bool(stages_of(self.model.module))
        )

    def _replay(self, part: Block, batch: Tensor) -> Tensor:
        """Return the loss of a full batch, by a pass that the GPU has recorded."""
        features, rest = self._features, self._rest
        inputs = self.samples.inputs if features is None else (features,)
        stage, every = self.samples.stage, stages_of(self.model.module)

        def body(rows: Sequence[Tensor]) -> Tensor:
            *own, labels = rows
            found = Samples(tuple(own), {}, labels, stage)
            if features is None:
                return self._descent(part, lambda: forward_stages(every, found), labels)
            return self._descent(part, lambda: forward_rest(rest, own[0]), labels)

        shapes = tuple((x.shape[1:], x.dtype) for x in inputs)
        kind = (part, len(batch), stage, len(rest) if features is not None else None)
        sources = [*inputs, self.samples.labels]
        return self.model.graphs.run((*kind, shapes, self._bf16), body, sources, batch)

    def full_gradient(self, part: Block) -> Tensor:
        """Return the gradient of the mean loss over all samples, without dropout."""
        gradient = self.model.gradient[self.model.block_slice(part)]
        gradient.zero_()
        self.model.set_trainable(part)
        self.model.module.eval()
        n = len(self.samples.labels)
        for chunk in self.samples.chunks(EVALUATION_CHUNK):
            outputs = outputs_of(self.model.module, chunk, self.model.task)
            loss = self.model.task.loss(outputs, chunk.labels, "sum")
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
        result = _call(module, samples)
    return checked_outputs(result, samples.labels.shape[0], task)


def _call(module: nn.Module, samples: Samples) -> Any:
    """Return whatever a module makes of samples."""
    if samples.lengths:
        return module(*samples.inputs, lengths=samples.lengths)
    return module(*samples.inputs)
