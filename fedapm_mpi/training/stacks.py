"""Clients whose local phases are run together, as rows of one batched product."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import ceil
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.stacked_model import Pool, StackedModel
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.optim.local import Block, Lane, LocalPhase
from fedapm_mpi.optim.stacked import run_together
from fedapm_mpi.training.lockstep import Ask, Asked, Lockstep

Result = TypeVar("Result")


class StackedObjective(LocalObjective, Lane):
    """The training loss of a client in a stack.

    Its vectors are rows of the stack. What is computed for the client alone, such as a
    full gradient, goes by the rank's one model.
    """

    def __init__(self, place: "Place", *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lane = place.lane
        self._place = place
        self.shared = place.stack.shared[place.lane]
        self.personal = place.stack.personal[place.lane]

    def run(self, phase: LocalPhase) -> None:
        """Take the steps of a phase together with those of other clients."""
        self._place.ask(phase)

    def gradient(self, part: Block, batch: Tensor) -> Tensor:
        """Return the gradient of a batch's mean loss; see `Objective.gradient`."""
        self.load_model()
        super()._begin(part)
        return super().gradient(part, batch)

    def full_gradient(self, part: Block) -> Tensor:
        """Return the gradient of the mean loss over all samples, without dropout."""
        self.load_model()
        return super().full_gradient(part)

    def _begin(self, block: Block) -> None:
        pass  # the passes of a phase are the stack's

    def load_model(self) -> None:
        """Set the rank's one model to the client's row."""
        self.model.shared.copy_(self.shared)
        self.model.personal.copy_(self.personal)


class Place:
    """A row of a stack, and how its client asks for what is done together."""

    def __init__(self, stack: StackedModel, lane: int, ask: Ask[LocalPhase]) -> None:
        self.stack, self.lane, self.ask = stack, lane, ask


class GroupStack(NamedTuple):
    """The stack of the clients with one model."""

    stack: StackedModel
    width: Callable[[int], int]
    """Returns the samples in the largest batch of any client, given the size of a
    mini-batch."""


class Members(NamedTuple):
    """Clients that are trained together, or one alone."""

    clients: list[int]
    group: GroupStack | None


class Stacks:
    """How a rank trains its clients: in stacks, or one by one.

    Parameters
    ----------
    groups
        By number of a client's group its stack; of groups without, clients are trained
        one by one.
    size
        Clients of a stack.
    samples
        (m,) training samples of each client: those with most are first in a stack.

    Attributes
    ----------
    size
        Clients that are trained at a time.
    """

    def __init__(
        self,
        groups: Mapping[int, GroupStack] | None = None,
        size: int = 1,
        samples: NDArray[np.int64] | None = None,
    ) -> None:
        self._groups = dict(groups or {})
        self.size = size if self._groups else 1
        self._samples = np.zeros(0, np.int64) if samples is None else samples
        self._lockstep: Lockstep[LocalPhase, Any] = Lockstep()

    def of(self, group: int) -> GroupStack | None:
        """Return a group's stack, if it has one."""
        return self._groups.get(group)

    def divide(
        self, clients: Iterable[int], of_client: NDArray[np.int64], share: int
    ) -> Iterator[Members]:
        """Yield clients as they come, those that are trained together at once.

        Parameters
        ----------
        clients
            The next are drawn when those before are done.
        of_client
            (m,) the group of each client.
        share
            Clients for this rank, about: they are drawn in equal numbers. Idle rows of
            a stack change no result.
        """
        stacks = ceil(max(share, 1) / self.size)
        count = ceil(max(share, 1) / stacks)
        drawn = iter(clients)
        while members := list(islice(drawn, count)):
            by_group: dict[int, list[int]] = {}
            for client in members:
                by_group.setdefault(int(of_client[client]), []).append(client)
            for number, found in by_group.items():
                group = self._groups.get(number)
                if group is None:
                    yield from (Members([client], None) for client in found)
                else:
                    found.sort(key=lambda k: (-self._samples[k], k))
                    yield Members(found, group)

    def run(
        self, members: Members, function: Callable[[int, Place | None], Result]
    ) -> list[Result | BaseException]:
        """Call a function for each of the clients, with their phases together.

        Returns what it has returned or raised for each.
        """
        clients, group = members
        if group is None:
            try:
                return [function(client, None) for client in clients]
            except BaseException as error:
                return [error]
        stack, width = group

        def at(lane: int) -> Callable[[Ask[LocalPhase]], Result]:
            return lambda ask: function(clients[lane], Place(stack, lane, ask))

        def serve(asked: list[Asked[LocalPhase]]) -> None:
            _serve(asked, stack, width)

        return self._lockstep.run([at(lane) for lane in range(len(clients))], serve)


def _serve(
    asked: Sequence[Asked[LocalPhase]],
    stack: StackedModel,
    width: Callable[[int], int],
) -> None:
    """Run the phases that clients ask for, those of a kind together."""
    kinds: dict[Any, list[Asked[LocalPhase]]] = {}
    for one in asked:
        kinds.setdefault(one.request.kind, []).append(one)
    for members in kinds.values():
        phases = [one.request for one in members]
        errors = run_together(phases, _Gradients(stack, phases, width))
        for one, error in zip(members, errors, strict=True):
            one.error = error


class _Gradients:
    """The gradients of phases of one kind."""

    def __init__(
        self,
        stack: StackedModel,
        phases: Sequence[LocalPhase],
        width: Callable[[int], int],
    ) -> None:
        self._stack, self._block = stack, phases[0].block
        self._width = width(phases[0].batch_size)
        lanes = map(_objective, phases)
        # Without samples there is nothing to read.
        self._pool = Pool(
            {one.lane: one.samples for one in lanes if len(one.samples.targets)}
        )

    def compute(
        self, phases: Sequence[LocalPhase], batches: Sequence[Any]
    ) -> list[Exception | None]:
        """Compute the gradients of phases' mini-batches, and count their losses."""
        lanes = [_objective(phase) for phase in phases]
        rows = {one.lane: rows for one, rows in zip(lanes, batches, strict=True)}
        losses = self._stack.gradients(self._block, self._pool, rows, self._width)
        errors: list[Exception | None] = []
        for one in lanes:
            try:
                one.count(losses[one.lane], rows[one.lane].shape[0])
                errors.append(None)
            except TrainingError as error:
                errors.append(error)
        return errors

    def lane(self, phase: LocalPhase) -> int:
        """Return a client's row."""
        return _objective(phase).lane

    def block(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a block of all rows, and its gradients."""
        return self._stack.block(name)


def _objective(phase: LocalPhase) -> StackedObjective:
    assert isinstance(phase.problem, StackedObjective)
    return phase.problem
