"""CUDA graphs of passes over a batch: one launch in place of a hundred.

For a small network, launching kernels takes the processor longer than running them
takes the GPU. A pass over a full batch is therefore captured as a CUDA graph, once for
each kind of pass, and replayed for other rows and other clients' parameters, which are
copied to the memory that was captured. The results are the same bits.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Pass = Callable[[Sequence[Tensor]], Tensor]
"""Computes the loss of a batch's rows, and the gradients in the model's vector."""

WARM_UP_PASSES = 2
"""Passes before a capture, in which libraries choose their algorithms."""


class Model(Protocol):
    """What a capture needs of a model."""

    @property
    def device(self) -> torch.device: ...  # noqa: D102
    def read_buffers(self) -> tuple[Tensor, Tensor]: ...  # noqa: D102
    def write_buffers(self, floats: Tensor, counters: Tensor) -> None: ...  # noqa: D102


class _CapturedGraph:
    """A captured pass, with the memory that its rows are copied to."""

    def __init__(
        self, model: Model, body: Pass, sources: Sequence[Tensor], rows: Tensor
    ) -> None:
        self.static_inputs = [source.index_select(0, rows) for source in sources]
        self.graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[model.device.index]
        # A capture must not change the random numbers or buffers of layers.
        rng_state, buffers = generator.get_state(), model.read_buffers()
        try:
            side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side_stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side_stream):
                for _ in range(WARM_UP_PASSES):
                    body(self.static_inputs)
            torch.cuda.current_stream().wait_stream(side_stream)
            with torch.cuda.graph(self.graph):
                self.loss = body(self.static_inputs)
        finally:
            torch.cuda.synchronize()
            generator.set_state(rng_state)
            model.write_buffers(*buffers)


class CudaGraphCache:
    """The captured passes of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._captured: dict[Hashable, _CapturedGraph | None] = {}

    def run(
        self, key: Hashable, body: Pass, sources: Sequence[Tensor], rows: Tensor
    ) -> Tensor:
        """Return the loss of some rows; the first pass of a kind is captured.

        Parameters
        ----------
        key
            Kind of the pass: whatever it depends on besides rows and parameters.
        body
            The pass. It must launch the same kernels for all values, and use nothing
            but its argument and the model.
        sources : each (n, ...)
            Tensors from which the rows are selected.
        rows : (batch,)
            Indices, on the GPU.

        Returns
        -------
        () Tensor
            The loss, which the next pass may overwrite.
        """
        if key not in self._captured:
            try:
                captured = _CapturedGraph(self._model, body, sources, rows)
            except RuntimeError:  # it has an operation that cannot be captured
                captured = None
            self._captured[key] = captured
        found = self._captured[key]
        if found is None:
            return body([source.index_select(0, rows) for source in sources])
        for source, target in zip(sources, found.static_inputs, strict=True):
            torch.index_select(source, 0, rows, out=target)
        found.graph.replay()
        return found.loss
