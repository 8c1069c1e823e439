"""What samples are to be given: classes, of all or of positions, numbers, labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from data_prep.labels import labels
from data_prep.targets import Kind, counted, has_fractions, made_real
from fedapm_mpi.data.target import TargetValues
from fedapm_mpi.errors import DataError


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
    incomplete: bool = False,
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
    incomplete
        Whether samples may lack some of several targets.

    Raises
    ------
    DataError
        If one is missing, out of range, or not of this kind.
    """
    note = ""
    if kind is None and classes is None and has_fractions(values):
        kind, note = "real", made_real(where)
    if incomplete and kind not in ("real", "binary"):
        msg = (
            f"{where}: incomplete has no effect on classes; leave it out, or set "
            "target=real or target=binary"
        )
        raise DataError(msg)
    if kind is None or kind == "class":
        return Labelled(*labels(values, where, classes))
    # The classes of dense targets are named as classes are.
    names = (classes or ()) if kind == "dense" else targets
    made = counted(values, kind, where, names, incomplete)
    return Labelled(made.codes, made.ranges, note, made.target)
