"""The steps of several clients' phases, taken together.

Where an optimizer works on each number by itself, and so do the hooks, the clients'
blocks are rows of a matrix, which is stepped as one. What a client's numbers become
depends neither on its row nor on the others: rows are as long as whole vector
instructions (`engine.stacked_model.LANE`), and clients whose step sizes or penalties
differ are stepped apart.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from fedapm_mpi.optim.hooks import GradientHook
from fedapm_mpi.optim.local import LocalPhase, TrainedBlock, do_nothing

Errors = dict[int, Exception]
"""What went wrong with a phase, by its place among all."""


class Gradients(Protocol):
    """Gradients of several clients at once, in rows of a stack."""

    def compute(
        self, phases: Sequence[LocalPhase], batches: Sequence[Any], /
    ) -> Sequence[Exception | None]:
        """Compute the gradients of phases' mini-batches; return each client's error."""
        ...

    def lane(self, phase: LocalPhase, /) -> int:
        """Return a client's row."""
        ...

    def block(self, name: str, /) -> tuple[Tensor, Tensor]:
        """Return a block of all rows, and its gradients; padded by zeros."""
        ...


def run_together(
    phases: Sequence[LocalPhase], gradients: Gradients
) -> list[Exception | None]:
    """Take all steps of phases of one kind; return each one's error.

    Clients with fewer steps than others leave earlier, as do those with an error.
    """
    errors: Errors = {}
    steps = _MatrixSteps if _in_matrices(phases[0]) else _RowSteps
    stepper = steps(phases, gradients)
    going = list(range(len(phases)))
    while going:
        batches = _next_batches(phases, going, errors)
        for _ in range(phases[0].steps_per_batch):
            chosen = [k for k in batches if k not in errors]
            if chosen:
                stepper.step(chosen, batches, errors)
        for k in batches:
            if k not in errors:
                _guard(phases[k].after_batch, k, errors)
        going = [k for k in batches if k not in errors]
    return [errors.get(k) for k in range(len(phases))]


def _next_batches(
    phases: Sequence[LocalPhase], going: Sequence[int], errors: Errors
) -> dict[int, list[Any]]:
    """Return the next mini-batches of the phases that have any."""
    found: dict[int, list[Any]] = {}
    for k in going:
        try:
            found[k] = next(phases[k].batches)
        except StopIteration:
            pass
        except Exception as error:  # of a user's own method
            errors[k] = error
    return found


def _guard(function: Callable[[], object], k: int, errors: Errors) -> None:
    try:
        function()
    except Exception as error:  # of a user's own method
        errors[k] = error


class _RowSteps:
    """Steps that are taken row by row, from gradients that are computed together."""

    def __init__(self, phases: Sequence[LocalPhase], gradients: Gradients) -> None:
        self._phases, self._gradients = phases, gradients

    def step(
        self, chosen: Sequence[int], batches: dict[int, list[Any]], errors: Errors
    ) -> None:
        """Take a step of each chosen phase, along its mini-batches' mean gradient."""
        for k, found in self._mean(chosen, batches, errors).items():
            _guard(partial(self._phases[k].step, found), k, errors)

    def _mean(
        self, chosen: Sequence[int], batches: dict[int, list[Any]], errors: Errors
    ) -> dict[int, list[Tensor]]:
        sums: dict[int, list[Tensor]] = {}
        longest = max(len(batches[k]) for k in chosen)
        for j in range(longest):
            now = [k for k in chosen if len(batches[k]) > j and k not in errors]
            self.compute(now, [batches[k][j] for k in now], errors)
            for k in now:
                found = self._of(self._phases[k])
                if longest == 1:
                    sums[k] = found
                elif not j:  # the next pass overwrites all rows
                    sums[k] = [one.clone() for one in found]
                else:
                    for so_far, one in zip(sums[k], found, strict=True):
                        so_far.add_(one)
        for k, total in sums.items():
            if len(batches[k]) > 1:
                for mean in total:
                    mean.div_(len(batches[k]))
        return {k: total for k, total in sums.items() if k not in errors}

    def compute(
        self, chosen: Sequence[int], batches: Sequence[Any], errors: Errors
    ) -> None:
        """Compute gradients of the chosen phases."""
        if not chosen:
            return
        phases = [self._phases[k] for k in chosen]
        found = self._gradients.compute(phases, batches)
        errors |= {
            k: error
            for k, error in zip(chosen, found, strict=True)
            if error is not None
        }

    def _of(self, phase: LocalPhase) -> list[Tensor]:
        lane = self._gradients.lane(phase)
        return [
            self._gradients.block(one.name)[1][lane, : len(one.vector)]
            for one in phase.trained
        ]


class _MatrixSteps(_RowSteps):
    """Steps that are taken on all rows at once."""

    def __init__(self, phases: Sequence[LocalPhase], gradients: Gradients) -> None:
        super().__init__(phases, gradients)
        members: dict[Any, list[int]] = {}
        for k, phase in enumerate(phases):
            members.setdefault(_settings(phase), []).append(k)
        self._groups = [
            _Group([(k, phases[k]) for k in group], gradients)
            for group in members.values()
        ]

    def step(
        self, chosen: Sequence[int], batches: dict[int, list[Any]], errors: Errors
    ) -> None:
        """Take a step of each chosen phase."""
        self.compute(chosen, [batches[k][0] for k in chosen], errors)
        left = {k for k in chosen if k not in errors}
        for group in self._groups:
            group.step(left, errors)


class _Block:
    """A block of the clients of a group."""

    def __init__(
        self, trained: Sequence[TrainedBlock], padded: int, *, changing: bool
    ) -> None:
        self.first = trained[0]
        self.state: dict[str, Tensor] | None = None
        self._hooks = [one.hook for one in trained]
        self._padded, self._changing = padded, changing
        self._together = _stacked(self._hooks, padded)

    def hook(self, gradient: Tensor, values: Tensor) -> None:
        """Change the gradients as the clients' hooks do."""
        if self._together is not None:
            self._together(gradient, values)
            return
        length = len(self.first.vector)
        for hook, own, vector in zip(self._hooks, gradient, values, strict=True):
            if hook is not None:
                hook(own[:length], vector[:length])

    def refresh(self) -> None:
        """Read again what hooks are bound to, if it changes within a phase."""
        if self._changing and isinstance(self._together, partial):
            self._together = _stacked(self._hooks, self._padded)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the clients."""
        self._hooks = [self._hooks[k] for k in rows.tolist()]
        if isinstance(self._together, partial):
            self._together = _stacked(self._hooks, self._padded)
        if self.state is not None:
            self.state = {
                name: one[rows] if one.dim() == 2 else one
                for name, one in self.state.items()
            }


class _Group:
    """Clients that take the same steps."""

    def __init__(
        self, members: Sequence[tuple[int, LocalPhase]], gradients: Gradients
    ) -> None:
        self._members = list(members)
        self._gradients = gradients
        self._phase = members[0][1]
        self._blocks = [
            _Block(
                [phase.trained[j] for _, phase in members],
                gradients.block(one.name)[0].shape[1],
                changing=self._phase.after_batch is not do_nothing,
            )
            for j, one in enumerate(self._phase.trained)
        ]

    def step(self, chosen: set[int], errors: Errors) -> None:
        """Take a step of those that are chosen, and forget the others."""
        kept = [j for j, (k, _) in enumerate(self._members) if k in chosen]
        if len(kept) < len(self._members):
            self._members = [self._members[j] for j in kept]
            for block in self._blocks:
                block.keep(torch.tensor(kept, dtype=torch.int64))
        if not self._members:
            return
        try:
            self._step()
        except Exception as error:  # of a user's own method or optimizer
            errors |= {k: error for k, _ in self._members}

    def _step(self) -> None:
        lanes = [self._gradients.lane(phase) for _, phase in self._members]
        first, last = lanes[0], lanes[-1] + 1
        whole = lanes == list(range(first, last))
        rows: slice | Tensor = slice(first, last) if whole else torch.tensor(lanes)
        sizes = self._phase.step_sizes()
        rules = self._phase.problem.solver.rules
        for block, size in zip(self._blocks, sizes, strict=True):
            every, gradients = self._gradients.block(block.first.name)
            values, gradient = every[rows], gradients[rows]
            decay = self._phase.weight_decay
            if decay is not None:
                gradient.add_(values, alpha=decay)
            block.refresh()
            block.hook(gradient, values)
            optimizer = rules.of(block.first.name).optimizer
            if block.state is None:
                block.state = optimizer.init(values)
            optimizer.step(values, gradient, block.state, size)
            if not whole:
                every[rows] = values
        for _, phase in self._members:
            phase.count_step()


def _in_matrices(phase: LocalPhase) -> bool:
    """Return whether phases may be stepped as matrices, for any clients."""
    solver = phase.problem.solver
    rules = solver.rules
    return (
        rules.clip is None
        and not rules.keep
        and rules.accumulate_batches == 1
        and all(
            getattr(rules.of(one.name).optimizer, "elementwise", False)
            and not solver.changes_by_step(one.name)
            for one in phase.trained
        )
    )


def _settings(phase: LocalPhase) -> tuple[Any, ...]:
    """Return what clients must have in common to be stepped as one matrix."""
    return (
        phase.weight_decay,
        tuple((one.name, one.lr, _hook_settings(one.hook)) for one in phase.trained),
    )


def _hook_settings(hook: GradientHook | None) -> Any:
    if not _is_elementwise(hook):
        return None
    assert isinstance(hook, partial)
    numbers = sorted(
        (name, value)
        for name, value in hook.keywords.items()
        if not isinstance(value, Tensor)
    )
    return hook.func, tuple(numbers)


def _is_elementwise(hook: GradientHook | None) -> bool:
    """Return whether a hook is one on rows, with numbers and vectors bound to it."""
    if not isinstance(hook, partial) or not getattr(hook.func, "elementwise", False):
        return False
    return not hook.args and all(
        value.dim() == 1
        if isinstance(value, Tensor)
        else isinstance(value, int | float)
        for value in hook.keywords.values()
    )


def _nothing(gradient: Tensor, values: Tensor) -> None:
    pass


def _stacked(hooks: Sequence[GradientHook | None], length: int) -> GradientHook | None:
    """Return clients' hooks as one on matrices; `None` if they go one by one."""
    if all(hook is None for hook in hooks):
        return _nothing
    if not all(map(_is_elementwise, hooks)):
        return None
    partials = [hook for hook in hooks if isinstance(hook, partial)]
    bound = {}
    for name, value in partials[0].keywords.items():
        if isinstance(value, Tensor):
            matrix = value.new_zeros(len(partials), length)
            for row, one in zip(matrix, partials, strict=True):
                row[: len(value)] = one.keywords[name]
            bound[name] = matrix
        else:
            bound[name] = value
    return partial(partials[0].func, **bound)
