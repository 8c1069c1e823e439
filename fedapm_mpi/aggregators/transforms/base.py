"""The interface of an update transform, and the chain of those of a run.

Each client's update passes through the transforms in their order, before the sum over
clients. The sum passes through them in the reverse order on the server.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.aggregators.base import AggregationContext, Update
from fedapm_mpi.plugins.errors import PluginError, blame
from fedapm_mpi.registry import Registry

STATE_PREFIX = "update_transforms."
"""What the names of a transform's tensors in a client's state begin with."""


@dataclass(frozen=True)
class UpdateContext:
    """The client and round of an update."""

    client: int
    """The client that sends it."""

    round_index: int
    """Rounds before this one."""

    participants: NDArray[np.int64]
    """(k,) the clients that take part, ascending."""

    seed: int
    """The run's seed; address random numbers by `utils.rng.generator` from it, with a
    purpose of your own, the round and the client."""

    model_length: int
    """The first numbers of an update are changes of the model's rows; behind them are
    those of averaged buffers and of the dual, if the run has them."""


class UpdateTransform(ABC):
    """One step between a client's local work and the sum over clients."""

    def new_client_state(self, length: int) -> dict[str, Tensor]:
        """Return what the transform keeps of a client that has not taken part yet.

        The tensors join the client's state: checkpoints and the digest hold them. Their
        names, shapes and dtypes must stay the same.

        Parameters
        ----------
        length
            Numbers of an update.
        """
        return {}

    @abstractmethod
    def encode(
        self, update: Update, state: dict[str, Tensor], context: UpdateContext
    ) -> Update:
        """Return what the client sends instead of an update.

        Parameters
        ----------
        update : (length,)
            The update, in float64; it may be overwritten.
        state
            What `new_client_state` returned, on the CPU; to be changed in place.
        context
            The client and the round.

        Returns
        -------
        (length,) float64 array
        """

    def decode(self, total: Update, context: AggregationContext) -> Update:
        """Return what the server uses instead of a sum, (length,) in float64."""
        return total


class TransformChain:
    """The transforms of a run, in their order.

    Parameters
    ----------
    members
        Each with its label for messages, `None` for one of the package's own.
    length
        Numbers of an update.
    """

    def __init__(
        self, members: Sequence[tuple[str | None, UpdateTransform]], length: int
    ) -> None:
        self._members = tuple(members)
        self._length = length

    def new_client_state(self) -> dict[str, Tensor]:
        """Return what the transforms keep of a client that has not taken part yet."""
        state: dict[str, Tensor] = {}
        for k, (label, transform) in enumerate(self._members):
            with blame(label):
                own = transform.new_client_state(self._length)
                state |= {f"{_prefix(k)}{name}": own[name] for name in own}
        return state

    def encode(
        self, update: Update, state: dict[str, Tensor], context: UpdateContext
    ) -> Update:
        """Return what a client sends; change its `state`.

        Parameters
        ----------
        update : (length,)
            Its update.
        state
            The tensors of `new_client_state`.
        context
            The client and the round.

        Raises
        ------
        PluginError
            If a user's own transform fails, or returns something else.
        """
        for k, (label, transform) in enumerate(self._members):
            prefix = _prefix(k)
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in state.items()
                if name.startswith(prefix)
            }
            with blame(label):
                update = transform.encode(update, own, context)
            self._check("encode", label, update)
            for name in [name for name in state if name.startswith(prefix)]:
                del state[name]
            state |= {f"{prefix}{name}": tensor for name, tensor in own.items()}
        return update

    def decode(self, total: Update, context: AggregationContext) -> Update:
        """Return what the server uses instead of a sum, (length,); see `encode`."""
        for label, transform in reversed(self._members):
            with blame(label):
                total = transform.decode(total, context)
            self._check("decode", label, total)
        return total

    def _check(self, method: str, label: str | None, found: object) -> None:
        if label is None:
            return
        if (
            not isinstance(found, np.ndarray)
            or found.dtype != np.float64
            or found.shape != (self._length,)
        ):
            kind = type(found).__name__
            if isinstance(found, np.ndarray):
                kind = f"an array of shape {found.shape}, {found.dtype}"
            msg = (
                f"{label}: {method} returned {kind}; it must return a float64 array of "
                f"shape ({self._length},)"
            )
            raise PluginError(msg)


def is_transform_state(name: str) -> bool:
    """Return whether a tensor of a client's state belongs to a transform."""
    return name.startswith(STATE_PREFIX)


def _prefix(k: int) -> str:
    return f"{STATE_PREFIX}{k}."


transforms: Registry[Callable[..., UpdateTransform]] = Registry(
    "update transform", __package__
)
