"""What samples are to be given: classes, of all or of positions, numbers, labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from data_prep.labels import labels
from data_prep.targets import Kind, counted, has_fractions, made_real
from fedapm_mpi.data.target import TargetValues


class Labelled(NamedTuple):
    """What samples are counted by, and their targets if these are no classes."""

    codes: NDArray[Any]
    classes: tuple[str, ...]
    note: str
    target: TargetValues | None = None


def labelled(
    values: Any,
    where: str,
    kind: Kind | None,
    *,
    classes: Sequence[str] | None = None,
    targets: Sequence[str] = (),
) -> Labelled:
    """Return what entries of samples are.

    Parameters
    ----------
    values
        ``(n,)``, or ``(n, k)`` for k targets.
    where
        What to call them in messages.
    kind
        What they are; None for classes, unless they have fractions.
    classes, targets
        Names of the classes, or of the targets.

    Raises
    ------
    DataError
        If one is missing, out of range, or not of this kind.
    """
    note = ""
    if kind is None and classes is None and has_fractions(values):
        kind, note = "real", made_real(where)
    if kind is None or kind == "class":
        return Labelled(*labels(values, where, classes))
    # The classes of dense targets are named as classes are.
    names = (classes or ()) if kind == "dense" else targets
    made = counted(values, kind, where, names)
    return Labelled(made.codes, made.ranges, note, made.target)
