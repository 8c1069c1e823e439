"""Local optimization: a client's objective, the length of a phase, and its steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from math import ceil
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from fedapm_mpi.optim.budget import LocalBudget, budgets, forbid_tolerance
from fedapm_mpi.optim.hooks import GradientHook
from fedapm_mpi.optim.solver import BlockName, LocalSolver

__all__ = [
    "Block",
    "GradientHook",
    "Lane",
    "LocalBudget",
    "LocalPhase",
    "Objective",
    "Phase",
    "TrainedBlock",
    "budgets",
    "forbid_tolerance",
    "minimize",
]

Block = Literal["shared", "personal", "both"]
"""The parameters that a phase trains."""

Phase = Literal["personal", "shared", "joint"]
"""A local phase; it addresses the order of samples."""


class Objective(Protocol):
    """A client's training loss f_i as a function of two flat vectors."""

    shared: Tensor
    """(d_shared,) where gradients are taken; steps change it in place."""

    personal: Tensor
    """(d_personal,) likewise."""

    solver: LocalSolver
    """How the client steps in this round; `minimize` uses it."""

    def batches(self, phase: Phase, budget: LocalBudget, size: int, /) -> Iterator[Any]:
        """Yield mini-batches, in another order in each epoch; size 0 is the full batch.

        The last batch of an epoch may be smaller, or larger by less than a batch, as
        the configuration's ``last_batch`` says. For a budget with a tolerance, yield
        `max_epochs` epochs. During a phase of one block, leave the other block as it
        is: layers ahead of all that is trained may be evaluated once for all passes.
        """
        ...

    def num_batches(self, budget: LocalBudget, size: int, /) -> int:
        """Return how many mini-batches `batches` yields at most for a budget."""
        ...

    def gradient(self, block: Block, batch: Any, /) -> Tensor:
        """Return the gradient of the batch's mean loss in one block, or in both.

        Shapes (d_shared,), (d_personal,) or (d_shared + d_personal,), the shared
        block first; a buffer that the next call overwrites. Raises `TrainingError`
        if the loss is not finite; on a GPU, `batches` does at the end of a phase.
        """
        ...

    def full_gradient(self, block: Block, /) -> Tensor:
        """Return the gradient of the mean loss over all training samples."""
        ...


def do_nothing() -> None:
    """Do nothing after a mini-batch."""


def minimize(
    problem: Objective,
    block: Block,
    budget: LocalBudget,
    *,
    batch_size: int,
    lr: float,
    lr_personal: float | None = None,
    weight_decay: float | None = None,
    gradient_hook: GradientHook | None = None,
    personal_hook: GradientHook | None = None,
    steps_per_batch: int = 1,
    after_batch: Callable[[], object] = do_nothing,
    solved: Callable[[], bool] | None = None,
    model: str = "",
) -> int:
    """Take gradient steps on one block of a local problem, or on both, in place.

    Optimizer, schedule, clipping and accumulation are those of `problem.solver`.

    Parameters
    ----------
    problem
        The local problem; its vectors are the start, and then the result.
    block
        The block to train; both are stepped jointly, from gradients at one point.
    budget
        Length of the phase.
    batch_size
        Samples in a mini-batch; 0 is the full batch.
    lr, lr_personal
        Step sizes of the shared and the personal block; without the latter, `lr`.
    weight_decay
        L2 decay, added to the gradients ahead of the hooks; `None` adds nothing.
    gradient_hook, personal_hook
        Change the gradient in the shared block, and in the personal block.
    steps_per_batch, after_batch
        Steps on each mini-batch, and what to call after them.
    solved
        Returns whether the tolerance of the budget is met; called after each epoch.
    model
        Name of the trained model in `Algorithm.optimizer_states`; each has its own.

    Returns
    -------
    int
        The number of steps; 0 for a client without samples, or an empty block.
    """
    lr_v = lr if lr_personal is None else lr_personal
    how = (lr, gradient_hook), (lr_v, personal_hook)
    trained = _trained(problem, block, *how)
    if not trained:
        return 0
    length = _count_steps(problem, trained, budget, batch_size, steps_per_batch)
    phase = LocalPhase(problem, block, trained, length, weight_decay)
    phase.batches = _batches(problem, block, budget, batch_size, solved)
    phase.steps_per_batch, phase.after_batch = steps_per_batch, after_batch
    phase.batch_size, phase.model = batch_size, model
    phase.run()
    return phase.end()


def _count_steps(
    problem: Objective,
    trained: "list[TrainedBlock]",
    budget: LocalBudget,
    size: int,
    steps_per_batch: int,
) -> int:
    """Return the steps of a phase, at most; 1 if no step size depends on them."""
    if not any(problem.solver.changes_by_step(one.name) for one in trained):
        return 1
    group = problem.solver.rules.accumulate_batches
    budget = _with_accumulation(budget, group)
    return max(ceil(problem.num_batches(budget, size) / group) * steps_per_batch, 1)


def _with_accumulation(budget: LocalBudget, group: int) -> LocalBudget:
    """Return a budget in mini-batches, given one in steps of `group` mini-batches."""
    if group == 1 or budget.steps is None:
        return budget
    return replace(budget, steps=budget.steps * group)


def _batches(
    problem: Objective,
    block: Block,
    budget: LocalBudget,
    size: int,
    solved: Callable[[], bool] | None,
) -> Iterator[list[Any]]:
    """Yield the mini-batches of each step, until a tolerance is met if there is one.

    The last step of a phase may have fewer than the others.
    """
    phase: Phase = "joint" if block == "both" else block
    group = problem.solver.rules.accumulate_batches
    budget = _with_accumulation(budget, group)
    if solved is None:
        yield from _grouped(problem.batches(phase, budget, size), group)
        return
    for _ in range(budget.max_epochs or 1):
        yield from _grouped(problem.batches(phase, LocalBudget(epochs=1), size), group)
        if solved():
            return


def _grouped(batches: Iterator[Any], group: int) -> Iterator[list[Any]]:
    batches = iter(batches)
    if group == 1:
        for batch in batches:
            yield [batch]
        return
    while found := list(islice(batches, group)):
        yield found


def _mean_gradient(problem: Objective, block: Block, batches: list[Any]) -> Tensor:
    """Return the mean of the mini-batches' gradients; it may be overwritten."""
    first, *others = batches
    gradient = problem.gradient(block, first)
    if not others:
        return gradient
    gradient = gradient.clone()
    for batch in others:
        gradient.add_(problem.gradient(block, batch))
    return gradient.div_(len(batches))


class TrainedBlock(NamedTuple):
    """A block that a phase steps."""

    name: BlockName
    vector: Tensor
    lr: float
    hook: GradientHook | None
    place: slice | None
    """Place of the block's gradient in that of both; `None` where one is trained."""


class LocalPhase:
    """A phase of local steps, `length` of them if step sizes change within it.

    Gradients are those of the loss in all trained blocks; weight decay and hooks are
    added here.

    Attributes
    ----------
    trained
        The blocks that are stepped.
    batches
        The mini-batches of each step.
    batch_size, steps_per_batch, after_batch, weight_decay, model
        See `minimize`.
    """

    batches: Iterator[list[Any]]
    batch_size = 0
    model = ""
    steps_per_batch = 1
    after_batch: Callable[[], object] = staticmethod(do_nothing)

    def __init__(
        self,
        problem: Objective,
        block: Block,
        trained: list[TrainedBlock],
        length: int,
        weight_decay: float | None,
    ) -> None:
        self.problem, self.block, self.trained = problem, block, trained
        self._length = length
        self.weight_decay = weight_decay
        self._count = 0
        self._sizes = self._sizes_now()
        self._states: list[dict[str, Tensor]] | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """What phases must have in common to be run together."""
        names = tuple(one.name for one in self.trained)
        return self.block, names, self.batch_size, self.steps_per_batch

    def run(self) -> None:
        """Take all steps, alone or with those of other clients."""
        if isinstance(self.problem, Lane):
            self.problem.run(self)
            return
        for batches in self.batches:
            for _ in range(self.steps_per_batch):
                whole = _mean_gradient(self.problem, self.block, batches)
                self.step(
                    [
                        whole if one.place is None else whole[one.place]
                        for one in self.trained
                    ]
                )
            self.after_batch()

    def step(self, gradients: list[Tensor]) -> None:
        """Take a step, given the loss's gradient in each trained block."""
        solver = self.problem.solver
        solver.clip(gradients, "loss")
        for one, gradient in zip(self.trained, gradients, strict=True):
            if self.weight_decay is not None:
                gradient.add_(one.vector, alpha=self.weight_decay)
            if one.hook is not None:
                one.hook(gradient, one.vector)
        solver.clip(gradients, "direction")
        if self._states is None:
            self._states = [
                solver.load(self.model, one.name, one.vector) for one in self.trained
            ]
        sizes = self.step_sizes()
        stepped = zip(self.trained, gradients, self._states, sizes, strict=True)
        for one, gradient, state, size in stepped:
            optimizer = solver.rules.of(one.name).optimizer
            optimizer.step(one.vector, gradient, state, size)
        self.count_step()

    def step_sizes(self) -> list[float]:
        """Return the size of the next step in each trained block."""
        if self._length > 1:
            self._sizes = self._sizes_now()
        return self._sizes

    def count_step(self) -> None:
        """Count a step that has been taken."""
        self._count += 1

    def end(self) -> int:
        """Keep what is to be kept, and return the number of steps."""
        solver = self.problem.solver
        solver.steps += self._count
        for one, state in zip(self.trained, self._states or (), strict=False):
            solver.save(self.model, one.name, state, self._count)
        return self._count

    def _sizes_now(self) -> list[float]:
        factor, at = self.problem.solver.factor, (self._count, self._length)
        return [one.lr * factor(one.name, *at) for one in self.trained]


class Lane(ABC):
    """A client's `Objective` whose phases are run together with those of others."""

    @abstractmethod
    def run(self, phase: LocalPhase) -> None:
        """Take all steps of a phase; returns when they are taken."""


def _trained(
    problem: Objective,
    block: Block,
    shared: tuple[float, GradientHook | None],
    personal: tuple[float, GradientHook | None],
) -> list[TrainedBlock]:
    """Return the blocks to step, in the order of a joint gradient, if not empty."""
    cut = len(problem.shared)
    both: dict[BlockName, tuple[Tensor, float, GradientHook | None, slice]] = {
        "shared": (problem.shared, *shared, slice(0, cut)),
        "personal": (problem.personal, *personal, slice(cut, None)),
    }
    if block != "both":
        vector, lr, hook, _ = both[block]
        return [TrainedBlock(block, vector, lr, hook, None)] if len(vector) else []
    return [
        TrainedBlock(name, vector, lr, hook, place)
        for name, (vector, lr, hook, place) in both.items()
        if len(vector)
    ]
