"""Local optimization: a client's objective, the length of a phase, and its steps."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from math import ceil
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from fedapm_mpi.optim.budget import LocalBudget, budgets, forbid_tolerance
from fedapm_mpi.optim.solver import BlockName, LocalSolver

__all__ = [
    "Block",
    "GradientHook",
    "LocalBudget",
    "Objective",
    "Phase",
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


GradientHook = Callable[[Tensor, Tensor], object]
"""``hook(gradient, vector)`` changes a block's gradient, (d,), in place.

That is where proximal terms, duals and control variates come in."""


def _do_nothing() -> None:
    pass


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
    after_batch: Callable[[], object] = _do_nothing,
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
    trained = _trained(problem, block, model, *how)
    if not trained:
        return 0
    length = _count_steps(problem, trained, budget, batch_size, steps_per_batch)
    phase = _Steps(problem, block, trained, length, weight_decay)
    for batches in _batches(problem, block, budget, batch_size, solved):
        for _ in range(steps_per_batch):
            phase.step(batches)
        after_batch()
    return phase.end(model)


def _count_steps(
    problem: Objective,
    trained: "list[_Trained]",
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


class _Trained(NamedTuple):
    """A block that a phase steps."""

    name: BlockName
    vector: Tensor
    lr: float
    hook: GradientHook | None
    place: slice | None
    """Place of the block's gradient in that of both; `None` where one is trained."""

    state: dict[str, Tensor]
    """State of the optimizer."""


class _Steps:
    """The steps of a phase, `length` of them if step sizes change from one to another.

    Gradients are those of the loss in all trained blocks; weight decay and hooks are
    added here.
    """

    def __init__(
        self,
        problem: Objective,
        block: Block,
        trained: list[_Trained],
        length: int,
        weight_decay: float | None,
    ) -> None:
        self._problem, self._block = problem, block
        self._trained, self._length = trained, length
        self._weight_decay = weight_decay
        self._count = 0
        self._sizes = self._step_sizes()

    def step(self, batches: list[Any]) -> None:
        """Take a step along the mean gradient of mini-batches."""
        solver = self._problem.solver
        if self._length > 1:
            self._sizes = self._step_sizes()
        whole = _mean_gradient(self._problem, self._block, batches)
        gradients = [
            whole if one.place is None else whole[one.place] for one in self._trained
        ]
        solver.clip(gradients, "loss")
        for one, gradient in zip(self._trained, gradients, strict=True):
            if self._weight_decay is not None:
                gradient.add_(one.vector, alpha=self._weight_decay)
            if one.hook is not None:
                one.hook(gradient, one.vector)
        solver.clip(gradients, "direction")
        stepped = zip(self._trained, gradients, self._sizes, strict=True)
        for one, gradient, size in stepped:
            optimizer = solver.rules.of(one.name).optimizer
            optimizer.step(one.vector, gradient, one.state, size)
        self._count += 1

    def end(self, model: str) -> int:
        """Keep what is to be kept, and return the number of steps."""
        solver = self._problem.solver
        solver.steps += self._count
        for one in self._trained:
            solver.save(model, one.name, one.state, self._count)
        return self._count

    def _step_sizes(self) -> list[float]:
        factor, at = self._problem.solver.factor, (self._count, self._length)
        return [one.lr * factor(one.name, *at) for one in self._trained]


def _trained(
    problem: Objective,
    block: Block,
    model: str,
    shared: tuple[float, GradientHook | None],
    personal: tuple[float, GradientHook | None],
) -> list[_Trained]:
    """Return the blocks to step, in the order of a joint gradient, if not empty."""
    cut = len(problem.shared)
    both: dict[BlockName, tuple[Tensor, float, GradientHook | None, slice]] = {
        "shared": (problem.shared, *shared, slice(0, cut)),
        "personal": (problem.personal, *personal, slice(cut, None)),
    }
    load = problem.solver.load
    if block != "both":
        vector, lr, hook, _ = both[block]
        if not len(vector):
            return []
        return [_Trained(block, vector, lr, hook, None, load(model, block, vector))]
    return [
        _Trained(name, vector, lr, hook, place, load(model, name, vector))
        for name, (vector, lr, hook, place) in both.items()
        if len(vector)
    ]
