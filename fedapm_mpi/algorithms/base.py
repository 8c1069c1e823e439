r"""The interface of an algorithm: a step at the client and a step at the server.

A round is, for its participants S,

.. math:: \text{total} = \sum_{i \in S} \mathrm{client\_step}_i(\text{broadcast}),

then ``server_step(server, total)``. `server` is a (rows, d_shared) array: row 0 is the
shared model; further rows hold all else that an algorithm broadcasts. Every uplink is
an *increment*: a client that does not take part sends nothing, and a sum is the only
communication.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from torch import Tensor

from fedapm_mpi.optim.admm import Residuals
from fedapm_mpi.optim.default_solver import StepSize
from fedapm_mpi.optim.local import (
    Block,
    GradientHook,
    LocalBudget,
    Objective,
    minimize,
)
from fedapm_mpi.registry import Registry
from fedapm_mpi.utils.types import NonNegativeFloat, NonNegativeInt, PositiveFloat

__all__ = [
    "Algorithm",
    "BatchSize",
    "Block",
    "ClientState",
    "GradientHook",
    "LocalBudget",
    "NonNegativeFloat",
    "Objective",
    "PositiveFloat",
    "RoundInfo",
    "Sharing",
    "StepSize",
    "adapt",
    "algorithms",
    "budget_options",
    "convert_mappings",
    "declared_sharing",
    "interface_faults",
    "minimize",
    "weighted_delta",
]

ClientState = dict[str, Tensor]
"""A client's tensors between rounds, by name; checkpoints and digests hold all of them.

Always "shared" (d_shared,) and "personal" (d_personal,); an algorithm adds its own in
`new_client`. Names, shapes and dtypes never change afterwards.
"""

Sharing = Literal["split", "all", "none"]
BatchSize = NonNegativeInt


@dataclass(frozen=True)
class RoundInfo:
    """Facts of a round that every rank derives by itself.

    Where clients have different models, the server's array is updated segment by
    segment; all counts and sums are then over the clients that hold the segment.
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
    :math:`\rho`, before and after this round; (m, m) unless it adapts. Where penalties
    are of a client's own loss (`Algorithm.client_units`), each times the client's
    weight. `None` for algorithms without one."""

    weight_total: float = 1.0
    """Sum of all clients' weights."""

    step_factor: float = 1.0
    """Factor of the shared block's step size at the beginning of the round, by the
    schedule; 1 without one."""


class Algorithm(ABC):
    """One federated algorithm; its fields are its hyper-parameters.

    A subclass must have `sharing` and the three abstract methods. Every other method is
    an optional ability with a default: override it to have the ability. No field has a
    meaning other than its own, whatever its name.
    """

    sharing: ClassVar[Sharing]
    """Shared parameters: those of the configuration's split, all, or none."""

    rows: ClassVar[int] = 1
    """Rows of the server's array that are broadcast, and of an increment."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a field that would hide an ability.

        Raises
        ------
        TypeError
            If a field has the name of a method of `Algorithm`.
        """
        super().__init_subclass__(**kwargs)
        methods = {*REQUIRED_METHODS, *ABILITIES}
        for name in inspect.get_annotations(cls).keys() & methods:
            msg = (
                f"{cls.__name__}.{name}: an algorithm has a method of this name; give "
                "the field another name"
            )
            raise TypeError(msg)

    @abstractmethod
    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return the state of a client that has not taken part yet.

        Parameters
        ----------
        shared : (d_shared,)
            Shared block of the initial model; copy it before changing it.
        personal : (d_personal,)
            Personal block of the initial model, likewise.
        """

    @abstractmethod
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
            The client's term of the sum that the server receives.
        """

    @abstractmethod
    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        """Update the server's array, or some columns of it, in place; float64.

        Columns are independent: the update of one entry must not depend on others.

        Parameters
        ----------
        server : (rows + server_memory_rows(), d_shared)
            The rows that are broadcast, then those that the server keeps for itself.
        total : (rows, d_shared)
            Sum of the participants' increments.
        round_
            The round.
        """

    def server_memory_rows(self) -> int:
        """Return the number of rows that the server keeps for itself, zero at first."""
        return 0

    def mini_batch_size(self) -> int | None:
        """Return the samples in a mini-batch: 0 for all, `None` if unknown."""
        return None

    def local_budgets(self) -> Sequence[LocalBudget]:
        """Return the length of each phase of a participant's local work.

        Ranks share work by it; nothing that is computed depends on it.
        """
        return ()

    def trained_blocks(self) -> Sequence[Block]:
        """Return the block that each phase of `local_budgets` trains.

        With it, a method takes a split in which nothing is personal, or nothing shared:
        a block is then empty, and a phase that trains it alone takes no step, as in
        `minimize`. Without, such a split is refused.
        """
        return ()

    def fine_tuning_budgets(self) -> Sequence[LocalBudget]:
        """Return the length of each phase of training in `load_personal_model`."""
        return ()

    def optimizer_states(self) -> Sequence[tuple[str, Block]]:
        """Return the models that `client_step` trains, with their trained blocks.

        Each is a name that it gives to `minimize` as `model`, and the blocks that it
        trains under it. A client keeps an optimizer state for each, if the
        configuration says so.
        """
        return (("", "both"),)

    def admm_penalty(self) -> float | None:
        r"""Return the penalty :math:`\rho` of consensus ADMM; `None` for other methods.

        With a penalty, a run records it and the dual residual, and the server keeps the
        penalty that each client last worked with.
        """
        return None

    def client_units(self) -> bool | None:
        """Return whether penalties and duals are in units of a client's own loss.

        The client's weight then multiplies them, as it does the loss, in the augmented
        Lagrangian, the sum of the duals and the residuals. `None` for methods that
        know one unit only.
        """
        return None

    def adapts_penalty(self) -> bool:
        """Return whether the penalty may change from round to round."""
        return False

    def scheduled_penalty(self, round_index: int) -> float | None:
        """Return the penalty after `round_index` rounds, if residuals do not matter.

        Where this is not `None`, `next_penalty` is not called.
        """
        return None

    def next_penalty(self, residuals: Residuals, round_index: int) -> float | None:
        """Return the penalty after `round_index` rounds, given their residuals."""
        return self.admm_penalty()

    def with_penalty(self, penalty: float) -> "Algorithm":
        """Return the same algorithm with another penalty; needed if it adapts."""
        raise NotImplementedError

    @property
    def has_personal_model(self) -> bool:
        """Whether a client's model is another than (u, v_i)."""
        return type(self).load_personal_model is not Algorithm.load_personal_model

    def load_personal_model(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        """Set `problem.shared` and `problem.personal` to the client's own model.

        Called before an evaluation, in which every client takes part; it may train
        (fine-tuning), but must leave `client` and `broadcast` as they are. Both
        vectors hold the last evaluated client's model when it is called. Parameters are
        those of `client_step`.
        """
        raise NotImplementedError

    @property
    def has_lagrangian(self) -> bool:
        """Whether the method has an augmented Lagrangian."""
        return type(self).lagrangian is not Algorithm.lagrangian

    def lagrangian(
        self, client: ClientState, u_server: Tensor, loss: float, weight: float
    ) -> tuple[float, float]:
        """Return a client's share of the augmented Lagrangian, and Lyapunov's extra.

        Parameters
        ----------
        client
            The client's state.
        u_server : (d_shared,)
            The server's u.
        loss
            The client's mean training loss at its own blocks.
        weight
            The client's weight in the objective.

        Returns
        -------
        share, excess
            Terms of the sums over clients that are the augmented Lagrangian, and the
            Lyapunov function minus it.
        """
        raise NotImplementedError

    def warnings(self, weights: Sequence[float]) -> list[str]:
        """Return one sentence for each questionable setting, given all weights."""
        return []


REQUIRED_METHODS = ("new_client", "client_step", "server_step")
ABILITIES = (
    "server_memory_rows", "mini_batch_size", "local_budgets", "trained_blocks",
    "fine_tuning_budgets", "optimizer_states", "admm_penalty", "client_units",
    "adapts_penalty", "scheduled_penalty", "next_penalty", "with_penalty",
    "load_personal_model", "lagrangian", "warnings",
)  # fmt: skip
"""Optional methods of `Algorithm`."""

RENAMED_ABILITIES = {
    "personalise": "load_personal_model",
    "next_rho": "next_penalty",
    "memory_rows": "server_memory_rows()",
}
"""Former names of optional abilities, and their present ones."""

REPLACED_ABILITIES = {
    "local_optimizer": "steps follow the key optimizer of the configuration, which "
    "minimize uses",
}
"""Former abilities, and what does their work now."""


def interface_faults(algorithm: object) -> list[str]:
    """Return what keeps an object from being an algorithm, in words.

    Parameters
    ----------
    algorithm
        An instance of a user's class, whether it inherits from `Algorithm` or not.
    """
    faults = [
        f"has no method {name}"
        for name in REQUIRED_METHODS
        if not callable(getattr(algorithm, name, None))
    ]
    if getattr(algorithm, "sharing", None) not in get_args(Sharing):
        known = ", ".join(get_args(Sharing))
        faults.append(f"needs an attribute sharing, one of {known}")
    rows = getattr(algorithm, "rows", None)
    if type(rows) is not int or rows < 1:
        faults.append("needs an attribute rows, an integer from 1 on")
    # Without this, a class written for an older release would silently lose an ability.
    faults += [
        f"has {old}, which is now {new}: rename it"
        for old, new in RENAMED_ABILITIES.items()
        if hasattr(type(algorithm), old)
    ]
    faults += [
        f"has {old}, which has no effect, as {now}: remove it"
        for old, now in REPLACED_ABILITIES.items()
        if hasattr(algorithm, old)
    ]
    return faults


def declared_sharing(factory: Callable[..., Any]) -> Sharing:
    """Return the sharing of an algorithm that is not made yet.

    Of a factory that does not declare it, a function say, it is taken for "split".
    """
    found: Sharing = getattr(factory, "sharing", "split")
    return found


def adapt(algorithm: Any) -> Algorithm:
    """Return an algorithm, or a user's object of another class as one.

    Of an object that does not inherit from `Algorithm`, `sharing`, `rows` and methods
    with the names of those of `Algorithm` count; all other attributes are its own.

    Parameters
    ----------
    algorithm
        An object without `interface_faults`.
    """
    if isinstance(algorithm, Algorithm):
        return algorithm
    # The one place where abilities are found by name: methods, never values.
    found = {
        name: staticmethod(method)
        for name in (*REQUIRED_METHODS, *ABILITIES)
        if callable(method := getattr(algorithm, name, None))
    }
    attributes = {"sharing": algorithm.sharing, "rows": algorithm.rows, **found}
    kind = type(type(algorithm).__name__, (Algorithm,), attributes)
    adapted: Algorithm = kind()
    return adapted


algorithms: Registry[Callable[..., Algorithm]] = Registry("algorithm", __package__)


def convert_mappings(options: Any) -> None:
    """Turn mappings in a dataclass's fields into the dataclasses that they stand for.

    That is how a configuration file gives nested options. The type of a field says
    which dataclass, as in ``work: LocalBudget | None``.
    """
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Mapping):
            hint = field.type
            if isinstance(hint, str):  # from __future__ import annotations
                hint = get_type_hints(type(options))[field.name]
            if get_origin(hint) is Annotated:
                hint = get_args(hint)[0]
            kinds = _union_members(hint)
            kind = next((kind for kind in kinds if is_dataclass(kind)), None)
            if kind is not None:
                made: Any = kind
                object.__setattr__(options, field.name, made(**value))


def budget_options(factory: Callable[..., Any]) -> frozenset[str]:
    """Return the names of a factory's options whose type is `LocalBudget`.

    It may be optional. None are known where type hints cannot be resolved.
    """
    target: Any = factory
    if inspect.isclass(factory) and not is_dataclass(factory):
        target = factory.__init__
    try:
        hints = get_type_hints(target)
    except Exception:  # a user's, that cannot be resolved here
        return frozenset()
    return frozenset(
        name for name, hint in hints.items() if LocalBudget in _union_members(hint)
    )


def _union_members(hint: Any) -> tuple[Any, ...]:
    """Return the types that a type hint has alternatives of; else itself alone."""
    union = get_origin(hint) in (Union, UnionType)
    return get_args(hint) if union else (hint,)


def weighted_delta(u: Tensor, before: Tensor, weight: float) -> Tensor:
    r"""Return :math:`\alpha_i (u_i - u)` as an increment, (1, d) in float64."""
    return (u.double() - before.double()).mul_(weight)[None]
