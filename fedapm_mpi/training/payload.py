"""The layout of the flat vectors that the server broadcasts and clients send back."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T", Tensor, NDArray[np.float64])


@dataclass(frozen=True)
class PayloadLayout:
    """Where a flat vector holds the model's rows, the buffers and the dual's change.

    Down (broadcast): the rows, then the buffers. Up (an update, or the sum of all):
    the changes of these, then the change of the client's dual.
    """

    rows: int
    """Rows of the server's array that are sent; ``Algorithm.rows``."""

    shared_length: int
    """Length d of the server's shared vector, in all groups of clients."""

    buffer_length: int
    """Numbers of the averaged floating buffers; 0 where clients keep their own."""

    dual_sum: bool
    """Whether an update ends with the change of the client's dual."""

    @property
    def model_length(self) -> int:
        """Numbers of the model's rows."""
        return self.rows * self.shared_length

    @property
    def down_length(self) -> int:
        """Numbers in a round's broadcast."""
        return self.model_length + self.buffer_length

    @property
    def up_length(self) -> int:
        """Numbers in an update."""
        return self.down_length + self.dual_sum * self.shared_length

    def model(self, vector: T) -> T:
        """Return a view of the rows, (rows, d)."""
        return vector[: self.model_length].reshape(self.rows, self.shared_length)

    def shared(self, vector: T) -> T:
        """Return a view of row 0, the shared model u, (d,)."""
        return vector[: self.shared_length]

    def buffers(self, vector: T) -> T:
        """Return a view of the averaged buffers, (buffer_length,)."""
        return vector[self.model_length : self.down_length]

    def dual_change(self, vector: T) -> T:
        """Return a view of the dual's change in an update, (d,), or (0,)."""
        return vector[self.down_length : self.up_length]

    def initial(self, shared: Tensor, buffers: Tensor) -> Tensor:
        """Return what the server sends first, (down_length,), from a model's vectors.

        Parameters
        ----------
        shared : (d_shared,)
            The initial shared model; further rows begin with zeros.
        buffers : (>= buffer_length,)
            The initial floating buffers.
        """
        vector = shared.new_zeros(self.down_length)
        self.shared(vector).copy_(shared)
        self.buffers(vector).copy_(buffers[: self.buffer_length])
        return vector

    def pack(self, rows: Tensor, buffers: Tensor, out: Tensor) -> None:
        """Write what the server sends.

        Parameters
        ----------
        rows : (>= rows, d_shared)
            The server's array; what follows the first `rows` is not sent.
        buffers : (buffer_length,)
            Mean of the participants' buffers.
        out : (down_length,)
            The vector to broadcast.
        """
        self.model(out).copy_(rows[: self.rows])
        self.buffers(out).copy_(buffers)

    def pack_update(
        self, model: Tensor, buffers: Tensor | None, dual: Tensor | None
    ) -> NDArray[np.float64]:
        """Return what a client sends, (up_length,) in float64.

        Parameters
        ----------
        model : (rows, d_shared)
            What the algorithm's client step returned, in the server's layout.
        buffers : (buffer_length,)
            Change of the floating buffers; `None` where they are not averaged.
        dual : (d_shared,)
            Change of the dual; `None` where it is not followed.
        """
        parts = [model.reshape(-1), buffers, dual]
        update: NDArray[np.float64] = torch.cat(
            [part for part in parts if part is not None]
        ).numpy()
        return update
