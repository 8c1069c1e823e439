"""The options that say which parameters are personal, or how that is chosen."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt

from fedapm_mpi.optim.layer_test import AIC_THRESHOLD, DAMPING, Threshold
from fedapm_mpi.utils.types import NonNegativeFloat, PositiveFloat, PositiveInt, strict

Probability = Annotated[float, Gt(0), Lt(1)]


def exactly_one(ways: Mapping[str, object], hint: str = "") -> None:
    """Raise `ValueError` unless exactly one of several alternatives is given."""
    if sum(value is not None for value in ways.values()) != 1:
        msg = f"give exactly one of {', '.join(ways)}{hint}"
        raise ValueError(msg)


@strict
@dataclass(frozen=True, kw_only=True)
class AutoSplit:
    """How a split is chosen ahead of training, by the multiplier test unless said.

    Candidates are tried in order of the number of their personal parameters, and the
    first is chosen that leaves no layer shared in which clients differ. See
    ``docs/method.md``.
    """

    rule: Literal["multiplier", "federation_sensitivity", "fedselect"] = "multiplier"
    """What chooses. The other two, references of the field, look at one round in which
    each client trains all of its own model, and take no option but `clients`."""

    rounds: PositiveInt = 16
    """Rounds of training ahead of each candidate's test, along half a cosine of the
    step sizes. They start from the candidate before."""

    candidates: list[str] | None = None
    """Names of the candidates, of those that ``fedapm split CONFIG --list`` shows; all
    unless given."""

    threshold: PositiveFloat | None = None
    """LM that every shared layer must stay below; Akaike's criterion, 2, unless it or
    `level` is given."""

    level: Probability | None = None
    """In place of `threshold`: probability with which LM of a layer in which clients
    agree exceeds its threshold."""

    damping: NonNegativeFloat = DAMPING
    """Part of a layer's mean Fisher entry that is added to each: the larger it is, the
    less do parameters with small gradients count."""

    clients: PositiveInt = 100
    """Clients that take part in the search, in every round: the first of the run's, if
    it has more."""

    finalists: PositiveInt = 1
    """Candidates that are compared on the clients' ``val`` parts at the end: the chosen
    one and its neighbors in size. With 1 the test decides alone."""

    def __post_init__(self) -> None:
        if self.threshold is not None and self.level is not None:
            msg = "give threshold or level, not both"
            raise ValueError(msg)
        if self.rule == "multiplier":
            return
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("rule", "clients") and value != field.default:
                msg = (
                    f"{field.name} has no effect with rule {self.rule!r}, which tests "
                    "no candidates; remove it"
                )
                raise ValueError(msg)

    def test_threshold(self) -> Threshold:
        """Return what LM must stay below."""
        return Threshold(self.threshold or AIC_THRESHOLD, self.level)


@strict
@dataclass(frozen=True, kw_only=True)
class Split:
    """Which parameters are personal, given in exactly one of five ways."""

    personal: list[str] | None = None
    """Glob patterns of the personal parameters' names; all others are shared."""

    shared: list[str] | None = None
    """Glob patterns of the shared parameters' names; all others are personal."""

    rule: str | None = None
    """``module:function``, called with (name, parameter), true where personal."""

    first: PositiveInt | None = None
    """Number of personal layers at the model's beginning; goes together with `last`."""

    last: PositiveInt | None = None
    """Number of personal layers at its end; a layer is a weight with its bias."""

    auto: AutoSplit | None = None
    """Chosen from the data ahead of training; ``split: auto`` for its defaults."""

    def __post_init__(self) -> None:
        position = self.first if self.first is not None else self.last
        ways: dict[str, object] = {
            "personal": self.personal,
            "shared": self.shared,
            "rule": self.rule,
        }
        ways["first and last"] = position
        ways["auto"] = self.auto
        hint = "what replaces a file's split is given whole"
        exactly_one(ways, f"; {hint}, such as split={{shared: [body.*]}}")

    @classmethod
    def from_plain(cls, **values: Any) -> "Split":
        """Return options from plain values that were already validated."""
        if values.get("auto") is not None:
            values["auto"] = AutoSplit(**values["auto"])
        return cls(**values)


def search_options(split: Split | None) -> AutoSplit:
    """Return the options of the search of a split that is to be chosen."""
    assert split is not None
    assert split.auto is not None
    return split.auto


def written_out(split: object) -> object:
    """Return a split as a mapping where it is written as one word."""
    return {"auto": {}} if split == "auto" else split
