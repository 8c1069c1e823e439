"""A client's local problem: its training loss and gradients at two flat vectors."""

from collections.abc import Iterator
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn

from .algorithms.base import Part, Work
from .errors import TrainingError
from .samples import Samples
from .seeding import stream, torch_seed
from .split import SplitModel
from .stages import Stage, frozen_features, frozen_stages, run, stages_of, start

PHASES = ("personal", "shared", "joint")
"""The phases of local work; a phase's place in it addresses its random stream."""

EVALUATION_PIECE = 500
"""Samples per pass at most where only memory limits how many."""


class ClientProblem:
    r"""The training loss :math:`f_i` of one client in one round.

    The order of samples comes from ``stream(seed, "batches", round, client, phase)``
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

    Attributes
    ----------
    shared, personal
        The live vectors of `model`.
    loss_sum, loss_count
        Sum of the last phase's training losses over samples, and how many samples.
    """

    def __init__(
        self,
        model: SplitModel,
        samples: Samples,
        *,
        seed: int,
        round_index: int,
        client: int,
        purpose: Literal["batches", "personalise"] = "batches",
    ) -> None:
        self.model = model
        self.samples = samples
        self.shared, self.personal = model.shared, model.personal
        self._where = f"client {client}, round {round_index + 1}"
        self._streams = {
            phase: stream(seed, purpose, round_index, client, k)
            for k, phase in enumerate(PHASES)
        }
        self.loss_sum, self.loss_count = 0.0, 0
        self._phase = ""
        self._feature_piece = 0
        self._features: Tensor | None = None
        self._rest: list[Stage] = []
        self._stages = stages_of(model.module) if samples.stage else []
        dropout = "dropout" if purpose == "batches" else f"dropout {purpose}"
        # Not `torch.manual_seed`: it takes a stack trace for each kind of accelerator.
        torch.default_generator.manual_seed(
            torch_seed(seed, dropout, round_index, client)
        )

    def batches(
        self, phase: Literal["personal", "shared", "joint"], work: Work, size: int
    ) -> Iterator[Tensor]:
        """Yield row indices of mini-batches; see `LocalProblem.batches`."""
        n = len(self.samples.labels)
        if n == 0:
            return
        if phase != self._phase:
            self._phase, self.loss_sum, self.loss_count = phase, 0.0, 0
        self.model.focus("both" if phase == "joint" else phase)
        self.model.module.train()
        epochs, steps = work.epochs or work.max_epochs, work.steps
        passes = epochs or (steps or 0) * (size or n) / n
        self._features = None
        self._feature_piece = min(size or n, EVALUATION_PIECE) if passes > 1 else 0
        done_epochs = done_steps = 0
        while epochs is None or done_epochs < epochs:
            order = torch.from_numpy(self._streams[phase].permutation(n))
            for rows in torch.split(order, size or n):
                if steps is not None and done_steps == steps:
                    return
                yield rows
                done_steps += 1
            done_epochs += 1

    def gradient(self, part: Part, batch: Tensor) -> Tensor:
        """Return the gradient of a batch's mean loss; see `LocalProblem.gradient`."""
        gradient = self.model.gradient[self.model.part(part)]
        gradient.zero_()
        loss = nn.functional.cross_entropy(
            self._scores(part, batch), self.samples.labels.index_select(0, batch)
        )
        value = float(loss.detach())
        if not isfinite(value):
            msg = (
                f"the training loss is {value} ({self._where}, {self._phase} phase); "
                "lower the learning rate or the penalty, or look at the client's data"
            )
            raise TrainingError(msg)
        self.loss_sum += value * len(batch)
        self.loss_count += len(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return gradient

    def _scores(self, part: Part, batch: Tensor) -> Tensor:
        """Return the scores of a batch, from features of frozen stages if kept."""
        in_focus = part == {"joint": "both"}.get(self._phase, self._phase)
        if self._feature_piece and in_focus:
            frozen, self._rest = frozen_stages(self.model.module)
            if frozen:
                self._features = frozen_features(
                    frozen, self.samples, self._feature_piece
                )
            self._feature_piece = 0
        if self._features is not None and in_focus:
            return run(self._rest, self._features.index_select(0, batch))
        rows = self.samples.rows(batch)
        if rows.stage:
            return start(self._stages, rows)
        return scores(self.model.module, rows)

    def full_gradient(self, part: Part) -> Tensor:
        """Return the gradient of the mean loss over all samples, without dropout."""
        gradient = self.model.gradient[self.model.part(part)]
        gradient.zero_()
        self.model.focus(part)
        self.model.module.eval()
        n = len(self.samples.labels)
        for piece in self.samples.pieces(EVALUATION_PIECE):
            loss = nn.functional.cross_entropy(
                scores(self.model.module, piece), piece.labels, reduction="sum"
            )
            (loss / n).backward()  # type: ignore[no-untyped-call]
        self.model.module.train()
        return gradient


def scores(module: nn.Module, samples: Samples) -> Tensor:
    """Return the module's class scores, (n, K)."""
    if samples.stage:
        return start(stages_of(module), samples)
    if samples.lengths:
        result: Tensor = module(*samples.inputs, lengths=samples.lengths)
    else:
        result = module(*samples.inputs)
    return result
