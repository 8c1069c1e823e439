r"""What an algorithm is: a step at the client, a step at the server, and nothing else.

A round is, for its participants S,

.. math:: \text{total} = \sum_{i \in S} \mathrm{client\_step}_i(\text{broadcast}),

then ``server_step(server, total)``. `server` is a (rows, d_shared) array: row 0 is the
shared model, further rows whatever else an algorithm sends down. Every uplink is an
*increment*, so clients that sit a round out need not be heard from, and a sum is all
that communication must do.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

from annotated_types import Ge, Gt
from torch import Tensor

from fedapm_mpi.registry import Registry

ClientState = dict[str, Tensor]
"""What a client keeps between rounds, by name; checkpoints and digests hold all of it.

Always "shared" (d_shared,) and "personal" (d_personal,); an algorithm adds its own in
`new_client`. Names, shapes and dtypes are then the same for good.
"""

T = TypeVar("T")
Block = Literal["shared", "personal", "both"]
Sharing = Literal["split", "all", "none"]

PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
BatchSize = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class LocalBudget:
    """How long a local phase goes on: exactly one of epochs, steps, or a criterion."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    epochs: int | None = None
    """Passes over the client's training samples."""

    steps: int | None = None
    """Gradient steps; epochs are begun as needed."""

    xi: float | None = None
    r"""First tolerance :math:`\xi_i^0` of the squared gradient norm (u phase only)."""

    decay: float | None = None
    r"""Factor :math:`\mu_i` of the tolerance at each participation, in (0, 1)."""

    max_epochs: int | None = None
    """Most epochs to spend on reaching the tolerance."""

    def __post_init__(self) -> None:
        given = [self.epochs, self.steps, self.xi]
        if sum(value is not None for value in given) != 1:
            msg = "give exactly one of epochs, steps, xi"
            raise ValueError(msg)
        for name in ("epochs", "steps", "max_epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)
        if (self.xi is None) != (self.decay is None) or (self.xi is None) != (
            self.max_epochs is None
        ):
            msg = "xi, decay and max_epochs belong together: give all three or none"
            raise ValueError(msg)
        if self.decay is not None and not 0 < self.decay < 1:
            msg = f"decay must be in (0, 1), got {self.decay}"
            raise ValueError(msg)
        if self.xi is not None and not self.xi > 0:
            msg = f"xi must be positive, got {self.xi}"
            raise ValueError(msg)


class Objective(Protocol):
    """A client's training loss f_i as a function of two flat vectors."""

    shared: Tensor
    """(d_shared,) where gradients are taken; steps change it in place."""

    personal: Tensor
    """(d_personal,) likewise."""

    def batches(
        self,
        phase: Literal["personal", "shared", "joint"],
        work: LocalBudget,
        size: int,
    ) -> Iterator[Any]:
        """Yield mini-batches, shuffled anew in each epoch; size 0 is the full batch.

        The last batch of an epoch may be smaller, or larger by less than a batch, as
        the configuration's ``last_batch`` has it. A `work` with a criterion yields
        `max_epochs` epochs. While a phase of one part goes on, leave the other part as
        it is: layers ahead of all that is trained may be evaluated once for all passes.
        """
        ...

    def gradient(self, part: Block, batch: Any) -> Tensor:
        """Return the gradient of the batch's mean loss in one part, or in both.

        Shapes (d_shared,), (d_personal,) or (d_shared + d_personal,), the shared
        part first; a buffer that the next call overwrites. Raises `TrainingError`
        if the loss is not finite; on a GPU, `batches` does at the end of a phase.
        """
        ...

    def full_gradient(self, part: Block) -> Tensor:
        """Return the gradient of the mean loss over all training samples."""
        ...


@dataclass(frozen=True)
class RoundInfo:
    """What every rank knows of a round without being told.

    Where clients have different models, the server's array is updated in pieces, each
    held by the same clients throughout; then only these count here.
    """

    index: int
    """Rounds before this one."""

    num_clients: int
    """All clients, m."""

    participants: int
    """Clients that take part."""

    weight_sum: float
    """Sum of the participants' weights."""

    penalties: tuple[float, float] | None = None
    r"""Sum over all clients of the penalty each last used, in units of the present
    :math:`\rho`, before and after this round; (m, m) unless it adapts. `None` for
    algorithms without one."""

    weight_total: float = 1.0
    """Sum of all clients' weights."""


class Algorithm(Protocol):
    """One federated algorithm; its fields are its hyper-parameters."""

    sharing: ClassVar[Sharing]
    """Whether the configuration's split counts, or everything or nothing is shared."""

    rows: ClassVar[int]
    """Rows of the server's array and of an increment."""

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return the state of a client that has not taken part yet.

        The vectors are the initial model's; copy what is going to change.
        """
        ...

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        r"""Do a participant's local work; update `client` in place.

        Parameters
        ----------
        broadcast : (rows, d_shared)
            The server's array, in the precision of the model.
        client
            The client's state.
        problem
            Its training loss.
        weight
            Its weight :math:`\alpha_i` in the objective.

        Returns
        -------
        (rows, d_shared) Tensor, float64
            What it adds to the sum that the server receives.
        """
        ...

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        """Update the server's array, or some columns of it, in place; float64.

        Entry by entry: what becomes of one must not depend on others.

        Parameters
        ----------
        server : (rows + memory_rows, d_shared)
            What is broadcast, then what the server keeps for itself.
        total : (rows, d_shared)
            Sum of the participants' increments.
        round_
            The round.
        """
        ...


class Remembers(Protocol):
    """What an algorithm also has if its server keeps more than it sends."""

    @property
    def memory_rows(self) -> int:
        """Rows of the server's array that are never broadcast, zero at first."""
        ...


class Personalises(Protocol):
    """What an algorithm also has if a client does not just use (u, v_i)."""

    def personalise(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        """Set `problem.shared` and `problem.personal` to the client's own model.

        Called before an evaluation, in which every client takes part; it may train
        (fine-tuning), but must leave `client` and `broadcast` as they are. Both
        vectors hold the last evaluated client's model when it is called.
        """
        ...


class Advises(Protocol):
    """What an algorithm also has if some settings deserve a warning."""

    def warnings(self, weights: Sequence[float]) -> list[str]:
        """Return one sentence for each thing to think over, given all weights."""
        ...


def memory_rows(algorithm: Algorithm) -> int:
    """Return how many rows an algorithm's server keeps for itself; see `Remembers`."""
    return int(getattr(algorithm, "memory_rows", 0))


algorithms: Registry[Callable[..., Algorithm]] = Registry("algorithm", __package__)


def as_options(kind: type[T], value: "T | dict[str, Any]") -> T:
    """Return nested options from themselves or from plain values, as a file's."""
    return kind(**value) if isinstance(value, dict) else value


def forbid_criterion(**works: LocalBudget) -> None:
    """Raise `ValueError` where a phase that knows no tolerance is given one."""
    for name, work in works.items():
        if work.xi is not None:
            msg = f"{name} takes epochs or steps; only fedapm's shared_work knows xi"
            raise ValueError(msg)


def minimize(
    problem: Objective,
    part: Block,
    work: LocalBudget,
    *,
    batch_size: int,
    lr: float,
    weight_decay: float,
    adjust_shared: Callable[[Tensor, Tensor], object] | None = None,
) -> None:
    """Take plain SGD steps on one part of a local problem, or on both, in place.

    `adjust_shared`, called with the gradient in the shared part (decay included) and
    the shared part, may change the former in place: that is where proximal terms, duals
    and control variates come in.
    """
    phase: Literal["personal", "shared", "joint"] = "joint" if part == "both" else part
    for batch in problem.batches(phase, work, batch_size):
        gradient = problem.gradient(part, batch)
        for vector, slope in _blocks(problem, part, gradient):
            slope.add_(vector, alpha=weight_decay)
            if adjust_shared is not None and vector is problem.shared:
                adjust_shared(slope, vector)
            vector.sub_(slope, alpha=lr)


def weighted_delta(u: Tensor, before: Tensor, weight: float) -> Tensor:
    r"""Return :math:`\alpha_i (u_i - u)` as an increment, (1, d) in float64."""
    return (u.double() - before.double()).mul_(weight)[None]


def _blocks(
    problem: Objective, part: Block, gradient: Tensor
) -> list[tuple[Tensor, Tensor]]:
    if part == "shared":
        return [(problem.shared, gradient)]
    if part == "personal":
        return [(problem.personal, gradient)]
    cut = len(problem.shared)
    return [(problem.shared, gradient[:cut]), (problem.personal, gradient[cut:])]
