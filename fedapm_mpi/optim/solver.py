r"""How clients step: optimizers, step sizes over rounds, clipping and accumulation.

A phase's step on a block w is

.. math:: w \leftarrow \mathrm{optimizer}(w, \mathrm{clip}(g), \eta \cdot f(t)),

with g the gradient of the whole local problem (loss, weight decay, dual, penalty,
proximal term, control variate), :math:`\eta` the algorithm's step size and f the factor
of a schedule in round t.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from fedapm_mpi.optim.clip_options import Clip
from fedapm_mpi.optim.clipping import clip_gradients
from fedapm_mpi.optim.optimizers.base import LocalOptimizer
from fedapm_mpi.optim.optimizers.sgd import SGD
from fedapm_mpi.optim.schedules.base import Schedule

BlockName = Literal["shared", "personal"]
"""One of the two blocks of a model."""

STATE_PREFIX = "optimizer."
"""What the names of kept optimizer states in a client's state begin with."""

STEPS_TAKEN = "steps_taken"
"""Name of the steps that a kept state is old, () int64; with 0 it is not begun."""


@dataclass(frozen=True)
class Pace:
    """A schedule of one block's step size."""

    schedule: Schedule
    rounds: float
    """Rounds at which the schedule ends, warm-up included."""

    warmup: float = 0.0
    """Rounds in which the factor grows in a straight line to 1, where the schedule
    then begins; below `rounds`."""

    unit: Literal["round", "step"] = "round"
    """Whether the step size changes from round to round, or within a client's phase as
    well, whose steps are then spread evenly over the round."""

    @property
    def ends(self) -> bool:
        """Whether factors depend on where the schedule ends."""
        length = self.rounds - self.warmup
        factor = self.schedule.factor
        return factor(length, length) != factor(length, 2 * length)

    def factor(self, round_index: int, step: int = 0, steps: int = 1) -> float:
        """Return the factor in a round, before step `step` of a phase of `steps`.

        Raises
        ------
        ValueError
            If a user's own schedule gives no number from 0 on.
        """
        resolution = 1 / steps if self.unit == "step" else 1.0
        position = round_index + (step * resolution if self.unit == "step" else 0.0)
        if position < self.warmup:
            return (position + resolution) / (self.warmup + resolution)
        factor = self.schedule.factor(position - self.warmup, self.rounds - self.warmup)
        if not (isinstance(factor, int | float) and isfinite(factor) and factor >= 0):
            msg = f"the schedule's factor in round {round_index + 1} is {factor!r}"
            raise ValueError(msg)
        return float(factor)


@dataclass(frozen=True)
class BlockRules:
    """How one block is stepped."""

    optimizer: LocalOptimizer = field(default_factory=SGD)
    pace: Pace | None = None


@dataclass(frozen=True)
class SolverRules:
    """How the clients of a run step; the same for all."""

    shared: BlockRules = field(default_factory=BlockRules)
    personal: BlockRules = field(default_factory=BlockRules)
    clip: Clip | None = None
    accumulate_batches: int = 1
    """Mini-batches whose mean gradient makes a step."""

    keep: bool = False
    """Whether optimizer states are kept from one participation to the next."""

    def of(self, block: BlockName) -> BlockRules:
        """Return the rules of a block."""
        return self.shared if block == "shared" else self.personal

    def factors(self, round_index: int) -> dict[BlockName, float]:
        """Return the factors at the beginning of a round, of blocks with a schedule."""
        names: tuple[BlockName, ...] = ("shared", "personal")
        paces = {name: self.of(name).pace for name in names}
        return {
            name: pace.factor(round_index)
            for name, pace in paces.items()
            if pace is not None
        }

    def new_client_state(
        self,
        phases: Sequence[tuple[str, Literal["shared", "personal", "both"]]],
        vectors: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the kept states of a client that has not taken part yet.

        Parameters
        ----------
        phases
            What `Algorithm.optimizer_states` returns.
        vectors
            The client's initial "shared" and "personal" blocks.
        """
        state: dict[str, Tensor] = {}
        names: tuple[BlockName, ...] = ("shared", "personal")
        for model, trained in phases if self.keep else ():
            for name in names:
                if trained in (name, "both") and len(vectors[name]):
                    layout = state_layout(self.of(name).optimizer, vectors[name])
                    prefix = _prefix(model, name)
                    state |= {f"{prefix}{key}": layout[key] for key in layout}
        return state


class LocalSolver:
    """The steps of one client in one round, or in one evaluation.

    Parameters
    ----------
    rules
        How clients step.
    round_index
        Rounds before this one; `None` leaves step sizes as the algorithm has them.
    kept
        Kept states by their names in the client's state, updated in place; `None` if
        every phase begins with a fresh one.
    """

    def __init__(
        self,
        rules: SolverRules | None = None,
        round_index: int | None = None,
        kept: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.rules = SolverRules() if rules is None else rules
        self.steps = 0
        """Steps taken so far."""

        self._round_index = round_index
        self._kept = kept
        self._clipped: Tensor | int = 0

    @property
    def clipped(self) -> int:
        """Steps so far whose gradient was clipped."""
        return int(self._clipped)

    @property
    def plain(self) -> bool:
        """Whether a step is the configured step size times the negative gradient."""
        rules = (self.rules.shared, self.rules.personal)
        return self.rules.clip is None and all(
            one.pace is None
            and isinstance(one.optimizer, SGD)
            and not one.optimizer.momentum
            for one in rules
        )

    def factor(self, block: BlockName, step: int, steps: int) -> float:
        """Return the factor of a block's step size; see `Pace.factor`."""
        pace = self.rules.of(block).pace
        if pace is None or self._round_index is None:
            return 1.0
        return pace.factor(self._round_index, step, steps)

    def changes_by_step(self, block: BlockName) -> bool:
        """Return whether a block's step size changes within a phase."""
        pace = self.rules.of(block).pace
        return pace is not None and pace.unit == "step"

    def clip(
        self, gradients: Sequence[Tensor], of: Literal["loss", "direction"]
    ) -> None:
        """Bound the gradients of a step in place, if that is what is bounded."""
        rule = self.rules.clip
        if rule is not None and rule.of == of:
            self._clipped = self._clipped + clip_gradients(gradients, rule).long()

    def load(self, model: str, block: BlockName, vector: Tensor) -> dict[str, Tensor]:
        """Return a block's optimizer state at the beginning of a phase."""
        optimizer, prefix = self.rules.of(block).optimizer, _prefix(model, block)
        if self._kept is None or not int(self._kept[f"{prefix}{STEPS_TAKEN}"]):
            return optimizer.init(vector)
        found = {
            key.removeprefix(prefix): tensor.clone()
            for key, tensor in self._kept.items()
            if key.startswith(prefix)
        }
        del found[STEPS_TAKEN]
        # torch.optim keeps its counters, which have no axes, on the CPU.
        return {
            key: tensor.to(vector.device) if tensor.dim() else tensor
            for key, tensor in found.items()
        }

    def save(
        self, model: str, block: BlockName, state: Mapping[str, Tensor], steps: int
    ) -> None:
        """Keep a block's optimizer state after a phase of `steps` steps, if it is kept.

        Raises
        ------
        ValueError
            If a user's own optimizer has changed the names or shapes of its state.
        """
        if self._kept is None or not steps:
            return
        prefix = _prefix(model, block)
        names = {f"{prefix}{name}" for name in (*state, STEPS_TAKEN)}
        known = {name for name in self._kept if name.startswith(prefix)}
        if names != known:
            msg = (
                f"the optimizer's state holds {sorted(state)} after a phase, and other "
                "tensors after its first step; with state: keep they must be the same"
            )
            raise ValueError(msg)
        for name, tensor in state.items():
            self._kept[f"{prefix}{name}"].copy_(tensor)
        self._kept[f"{prefix}{STEPS_TAKEN}"].add_(steps)


def state_layout(optimizer: LocalOptimizer, vector: Tensor) -> dict[str, Tensor]:
    """Return zeros with the names, shapes and dtypes of an optimizer's state.

    They are those after a first step, with `STEPS_TAKEN`; on the CPU.

    Raises
    ------
    ValueError
        If the state cannot be kept: it holds something else than tensors.
    """
    block = torch.zeros_like(vector)
    state = optimizer.init(block)
    optimizer.step(block, torch.zeros_like(vector), state, 1.0)
    for name, value in state.items():
        if not isinstance(value, Tensor) or name == STEPS_TAKEN:
            msg = (
                f"its state {name!r} is {type(value).__name__}; with state: keep, all "
                f"must be tensors with other names than {STEPS_TAKEN}"
            )
            raise ValueError(msg)
    found = {name: torch.zeros_like(value).cpu() for name, value in state.items()}
    return found | {STEPS_TAKEN: torch.zeros((), dtype=torch.int64)}


def is_optimizer_state(name: str) -> bool:
    """Return whether a tensor of a client's state is a kept optimizer state."""
    return name.startswith(STATE_PREFIX)


def _prefix(model: str, block: BlockName) -> str:
    return f"{STATE_PREFIX}{model}.{block}." if model else f"{STATE_PREFIX}{block}."
