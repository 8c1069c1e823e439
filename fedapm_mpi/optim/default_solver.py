"""The solver of a configuration that gives no step size, and defaults next to it.

``benchmarks/defaults`` is the study that the numbers come from; its results are in
``docs/results/defaults``.
"""

from typing import Annotated, Any

from annotated_types import Ge, Gt

from fedapm_mpi.optim.budget import LocalBudget


class StepSizeOption:
    """Marks an option of an algorithm from which the size of its local steps follows.

    Parameters
    ----------
    inverse
        Whether the step size is one over the sum of the option and the penalty rho.
    plain
        Step size of plain SGD, if that is the method's default.
    """

    def __init__(self, *, inverse: bool = False, plain: float | None = None) -> None:
        self.inverse = inverse
        self.plain = plain

    def value(self, lr: float, rho: float) -> float:
        """Return what the option has to be for steps of size `lr`."""
        return max(0.0, 1 / lr - rho) if self.inverse else lr


StepSize = Annotated[float, Gt(0), StepSizeOption()]
"""Type of an option that is a step size. Where a configuration gives none of an
algorithm's options of this type, its steps are those of `DEFAULT_OPTIMIZER`."""

Proximity = Annotated[float, Ge(0), StepSizeOption(inverse=True)]
"""Type of an option that makes a step size of 1 / (rho + option)."""

Curvature = Annotated[float, Ge(0), StepSizeOption(inverse=True, plain=0.03)]
"""Type of such an option of a method whose dual follows each single step: it assumes
that a step is the linearized one, and diverges by Adam's."""

PENALTY = "penalty"
"""Marks an option whose default holds in units of a client's own loss alone."""

Penalty = Annotated[float, Gt(0), PENALTY]
"""Type of the penalty of a method that works in either unit."""

DERIVED = "derived"
"""Marks an option that, left out, follows from other options: its default is `None`,
and the algorithm's constructor finds its value, which a resolved configuration has."""

DEFAULT_LR = 0.008
"""Step size with `DEFAULT_OPTIMIZER`."""

BATCH_SIZE = 16
"""Samples in a mini-batch."""

WORK = LocalBudget(epochs=2)
"""Length of a round's local work; where blocks alternate each has half of it."""

HALF_WORK = LocalBudget(epochs=1)

RHO = 0.2
"""Penalty of the methods with duals, in units of a client's own loss."""

DUAL_SHARE = 1.0
"""FedAPM's share of the mean dual at the server where not all clients take part; the
study is ``docs/results/evidence``."""

PERSONAL = ("*bias*",)
"""Names of the parameters that are personal in a method that splits the model."""

INPUT_ENCODERS = {
    "har": ("*_conv.*",),
    "image-text": ("img_proj.*", "text_rnn.*"),
    "audio-video": ("audio_conv.*", "audio_rnn.*", "video_rnn.*"),
}
"""The same for the paper's models of several inputs, by name: what the paper keeps
personal. With biases `har` learns slowly, as clients' sensors differ in its first
layers."""

LAST_LAYER = ("fedper", "fedrep", "fedbabu")
"""Algorithms that are about a personal last layer, by name."""

WARMUP = 2
"""Rounds of warm-up, of a run of twenty rounds or more; a tenth of a shorter one."""


def default_optimizer(*, plain: bool = False) -> dict[str, Any]:
    """Return the optimizer of a configuration without step sizes."""
    if plain:
        return {"name": "sgd"}
    return {"name": "adam", "betas": [0.9, 0.99]}


def default_schedule(rounds: int) -> dict[str, Any]:
    """Return the schedule of a configuration without step sizes."""
    warmup = min(WARMUP, rounds // 10)
    return {"name": "cosine", "warmup": warmup, "final": 0.05}
