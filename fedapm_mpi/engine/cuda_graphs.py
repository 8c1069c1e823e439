"""Passes over a batch that a GPU replays: one launch in the place of a hundred.

A small network keeps a processor busier with launching kernels than a GPU with running
them. A pass over a full batch is therefore recorded once (as a CUDA graph) for each
kind of pass, and later replayed on other rows and other clients' parameters, which lie
where those did that were recorded. What comes out is the same, bit for bit.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Pass = Callable[[Sequence[Tensor]], Tensor]
"""From the rows of a batch to its loss; leaves gradients where the model has them."""

WARM_UPS = 2
"""Passes ahead of a recording, in which libraries choose what they do."""


class Model(Protocol):
    """What must be known of a model to try out passes on it."""

    @property
    def device(self) -> torch.device: ...  # noqa: D102
    def read_buffers(self) -> tuple[Tensor, Tensor]: ...  # noqa: D102
    def write_buffers(self, floats: Tensor, counters: Tensor) -> None: ...  # noqa: D102


class _CapturedGraph:
    """One kind of pass, with the places that its rows go to."""

    def __init__(
        self, model: Model, body: Pass, sources: Sequence[Tensor], rows: Tensor
    ) -> None:
        self.places = [source.index_select(0, rows) for source in sources]
        self.graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[model.device.index]
        # Trying out must leave no trace in what layers draw or keep.
        drawn, kept = generator.get_state(), model.read_buffers()
        try:
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    body(self.places)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(self.graph):
                self.loss = body(self.places)
        finally:
            torch.cuda.synchronize()
            generator.set_state(drawn)
            model.write_buffers(*kept)


class CudaGraphCache:
    """The recorded passes of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._recorded: dict[Hashable, _CapturedGraph | None] = {}

    def run(
        self, kind: Hashable, body: Pass, sources: Sequence[Tensor], rows: Tensor
    ) -> Tensor:
        """Return the loss of some rows, recording the pass if it is the first.

        Parameters
        ----------
        kind
            Tells passes apart in all but their rows and parameters.
        body
            The pass. What it does must not depend on values, and it must make no use
            of anything but its argument and the model.
        sources : each (n, ...)
            What the rows are taken from.
        rows : (batch,)
            Indices, on the GPU.

        Returns
        -------
        () Tensor
            The loss, which the next pass may overwrite.
        """
        if kind not in self._recorded:
            try:
                recorded = _CapturedGraph(self._model, body, sources, rows)
            except RuntimeError:  # it does what cannot be recorded
                recorded = None
            self._recorded[kind] = recorded
        found = self._recorded[kind]
        if found is None:
            return body([source.index_select(0, rows) for source in sources])
        for source, place in zip(sources, found.places, strict=True):
            torch.index_select(source, 0, rows, out=place)
        found.graph.replay()
        return found.loss
