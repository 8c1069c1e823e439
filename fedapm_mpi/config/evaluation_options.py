"""The options of an evaluation, and which models of a client it looks at."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fedapm_mpi.optim.budget import LocalBudget, forbid_tolerance
from fedapm_mpi.tracking.variants import (
    BEFORE_FINE_TUNING,
    CLIENT_COPY,
    CLIENT_COPY_BEFORE,
)
from fedapm_mpi.utils.types import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    strict,
)

SharedBlock = Literal["server", "client"]
"""Whose copy of the shared block a model has: the server's u, or the client's u_i."""


@strict
@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Training of a client's model on its own training samples before it is evaluated.

    The optimizer, clipping and accumulation of local steps hold for it too; a schedule
    does not, since its end would leave nothing of the step size.
    """

    block: Literal["personal", "shared", "all"]
    """The parameters that are trained; the others stay as they are."""

    lr: PositiveFloat
    """Step size."""

    work: LocalBudget
    """Length, in epochs or steps, which every client does for every evaluation."""

    batch_size: NonNegativeInt | None = None
    """Samples in a mini-batch; 0 is the full batch, `None` the algorithm's size."""

    weight_decay: NonNegativeFloat = 0.0
    """L2 decay of what is trained, included in the loss."""

    compare: bool = False
    """Whether to evaluate the models before they are fine-tuned as well."""

    def __post_init__(self) -> None:
        forbid_tolerance(work=self.work)


@strict
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """When and how clients are evaluated on their own test or val parts."""

    every: PositiveInt = 10
    """Rounds between evaluations; the last round is always evaluated."""

    clients: Literal["all", "participants"] = "all"
    """Which clients are evaluated: all, or the participants of the last round, which is
    cheaper, but evaluates a different set of clients each time."""

    split: Literal["test", "val", "train"] = "test"
    """Part of every client's data that is evaluated: choose settings on ``val``, and
    monitor the objective on ``train``."""

    shared_block: Literal["server", "client", "both"] = "server"
    """Shared block of the evaluated models: the server's u, or the client's own u_i as
    it last trained it. ``both`` evaluates each client twice, and records the metrics
    with u_i under ``client_copy``."""

    fine_tune: FineTune | None = None
    """Training of each evaluated model on its client's training samples ahead of the
    evaluation; it is thrown away afterwards, and changes nothing of the training."""

    pooled: bool = True
    """Whether to add metrics over all test samples pooled, which gathers every class
    probability on the server."""

    quantiles: tuple[float, ...] = ()
    """Quantiles of every metric over clients to record, such as 0.25 as
    ``accuracy_q25``; each between 0 and 1."""

    def __post_init__(self) -> None:
        for q in self.quantiles:
            if not 0 < q < 1:
                msg = f"quantiles: {q:g} is not between 0 and 1"
                raise ValueError(msg)
        if len(set(self.quantiles)) < len(self.quantiles):
            msg = "quantiles: one is there twice"
            raise ValueError(msg)

    @classmethod
    def from_plain(cls, **values: Any) -> "Evaluation":
        """Return options from plain values that were already validated."""
        values["quantiles"] = tuple(values.get("quantiles", ()))
        tuning = values.get("fine_tune")
        if tuning is not None:
            work = LocalBudget(**tuning["work"])
            values["fine_tune"] = FineTune(**{**tuning, "work": work})
        return cls(**values)

    @property
    def variants(self) -> tuple["Variant", ...]:
        """The models of each client that are evaluated, those of the record first."""
        main: SharedBlock = "client" if self.shared_block == "client" else "server"
        found = [Variant("", main, self.fine_tune is not None)]
        if self.shared_block == "both":
            found.append(found[0]._replace(name=CLIENT_COPY, shared_block="client"))
        if self.fine_tune is not None and self.fine_tune.compare:
            found += [
                Variant(BEFORE[one.name], one.shared_block, False) for one in found
            ]
        return tuple(found)


class Variant(NamedTuple):
    """One of the models of a client that an evaluation looks at."""

    name: str
    """Key of a record that holds its metrics; empty for those of the record itself."""

    shared_block: SharedBlock
    """Whose copy of the shared block it has."""

    fine_tuned: bool
    """Whether it is trained before it is evaluated."""


BEFORE = {"": BEFORE_FINE_TUNING, CLIENT_COPY: CLIENT_COPY_BEFORE}
"""What a fine-tuned variant is called before it is fine-tuned."""
