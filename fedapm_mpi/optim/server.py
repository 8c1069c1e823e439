r"""Server optimizers: the mean change of the model, taken as a pseudo-gradient.

A step of length 1 along the change is the plain mean.

References: McMahan et al., AISTATS 2017 (the mean); Hsu, Qi and Brown, "Measuring the
effects of non-identical data distribution for federated visual classification", arXiv
1909.06335, 2019 (momentum); Reddi et al., "Adaptive federated optimization", ICLR 2021,
algorithm 2 (Adam).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt
from torch import Tensor

from fedapm_mpi.utils.types import PositiveFloat, strict

Fraction = Annotated[float, Ge(0), Lt(1)]


@strict
@dataclass(frozen=True)
class ServerOptimizer:
    """A step of the server's model along the mean change."""

    name: Literal["sgd", "adam"] = "sgd"
    """A step along the change, or Adam's (without correction of the first rounds)."""

    lr: PositiveFloat = 1.0
    """Step size; with sgd 1 is the plain mean."""

    momentum: Fraction | None = None
    """Of sgd; 0 unless given."""

    beta1: Fraction | None = None
    """Of adam: decay of the mean change; 0.9 unless given."""

    beta2: Fraction | None = None
    """Of adam: decay of the mean squared change; 0.99 unless given."""

    eps: PositiveFloat | None = None
    r"""Of adam: adaptivity :math:`\tau`; 0.001 unless given."""

    def __post_init__(self) -> None:
        foreign = {"sgd": ("beta1", "beta2", "eps"), "adam": ("momentum",)}
        for name in foreign.get(self.name, ()):
            if getattr(self, name) is not None:
                msg = f"server_optimizer {self.name!r} has no {name}; leave it out"
                raise ValueError(msg)

    @property
    def _tau(self) -> float:
        return 0.001 if self.eps is None else self.eps

    @property
    def plain(self) -> bool:
        """Whether the next model is just the mean."""
        return self.name == "sgd" and self.lr == 1 and not self.momentum

    @property
    def memory_rows(self) -> int:
        """Number of vectors in the state."""
        if self.name == "adam":
            return 2
        return 1 if self.momentum else 0

    def begin(self, memory: Tensor) -> None:
        r"""Set the state, (memory_rows, d) zeros, to its initial values."""
        if self.name == "adam":
            memory[1].fill_(self._tau**2)

    def step(self, u: Tensor, change: Tensor, memory: Tensor) -> None:
        """Update the model in place.

        Parameters
        ----------
        u : (d,)
            The server's model.
        change : (d,)
            The mean change of it.
        memory : (memory_rows, d)
            The state; updated in place.
        """
        if self.name == "adam":
            beta1 = 0.9 if self.beta1 is None else self.beta1
            beta2 = 0.99 if self.beta2 is None else self.beta2
            mean, square = memory
            mean.mul_(beta1).add_(change, alpha=1 - beta1)
            square.mul_(beta2).addcmul_(change, change, value=1 - beta2)
            u.addcdiv_(mean, square.sqrt().add_(self._tau), value=self.lr)
        elif self.momentum:
            (mean,) = memory
            mean.mul_(self.momentum).add_(change)
            u.add_(mean, alpha=self.lr)
        else:
            u.add_(change, alpha=self.lr)
