"""The interface of a rule that chooses a split from clients' local training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class LocalModel(NamedTuple):
    """A client's model before and after a round of training on its own."""

    sizes: Mapping[str, int]
    """Of its parameters by name, in their order in the vectors."""

    start: Tensor
    """(d,) all its parameters before."""

    end: Tensor
    """(d,) after."""

    gradient: Tensor
    """(d,) of its mean loss after, in evaluation mode."""

    def places(self) -> dict[str, slice]:
        """Return the places of the parameters in the vectors."""
        found, begin = {}, 0
        for name, size in self.sizes.items():
            found[name] = slice(begin, begin + size)
            begin += size
        return found


class LocalRule(Protocol):
    """Chooses what is personal from scores that each client computes by itself."""

    @property
    def needs_gradient(self) -> bool:
        """Whether a client's score needs its gradient after training."""
        ...

    def scored(self, names: Sequence[str]) -> list[str]:
        """Return the names of what is scored in a model with these parameters."""
        ...

    def score(self, client: LocalModel) -> dict[str, float]:
        """Return a client's scores by the names of `scored`."""
        ...

    def personal(
        self, scores: Mapping[str, float], sizes: Mapping[str, int]
    ) -> set[str]:
        """Return which parameters are personal.

        Parameters
        ----------
        scores
            Mean of each score over the clients whose model has it.
        sizes
            Of all parameters by name, in the model's order.
        """
        ...
