r"""The rule of FedSelect, for whole tensors: personal is what local training changes.

Let :math:`\Delta` be the change of a client's parameters in local training. It selects
the fraction p of its entries with the largest :math:`|\Delta_j|`. Parameter tensors are
personal in order of the share of their entries that is selected, in the mean over
clients, as long as they fit into the fraction p of all entries.

Reference: Tamirisa, Xie, Bao, Zhou, Arel and Shamsian, FedSelect: personalized
federated learning with customized selection of parameters for fine-tuning, CVPR 2024,
arXiv 2404.02478, and github.com/lapisrocks/fedselect.

What differs here: FedSelect selects single entries, each client its own, and adds to
them every few rounds until a limit (25 % of the rest each time, up to 80 %, in the
authors' code). In that code the fraction is one of each weight tensor, and biases stay
shared. A split by name has one set of whole tensors for all clients, chosen once; so
entries are compared over the whole model, biases among them. How much is personal is an
option here as there, not a result: a large tensor is never.
"""

from collections.abc import Mapping

from torch import Tensor

FRACTION = 0.25
"""Default fraction p of the entries that a client selects, as in the authors' code."""


def selected_shares(
    change: Tensor, tensors: Mapping[str, slice], fraction: float = FRACTION
) -> dict[str, float]:
    r"""Return which share of each tensor's entries a client selects.

    Parameters
    ----------
    change : (d,)
        Change :math:`\Delta` of the client's parameters.
    tensors
        Places of the parameter tensors, by name; none may be empty.
    fraction
        Fraction p of all entries that are selected, rounded to at least one.
    """
    count = max(1, round(fraction * len(change)))
    # A stable sort: where changes are equal, the first entries are selected.
    order = change.abs().argsort(descending=True, stable=True)
    chosen = change.new_zeros(len(change))
    chosen[order[:count]] = 1
    return {name: float(chosen[place].mean()) for name, place in tensors.items()}


def personal_tensors(
    shares: Mapping[str, float],
    sizes: Mapping[str, int],
    fraction: float = FRACTION,
) -> set[str]:
    """Return the tensors to keep.

    Parameters
    ----------
    shares
        Means over clients of `selected_shares`.
    sizes
        Entries of each tensor.
    fraction
        Fraction p of all entries that they are at most; one that does not fit is
        shared, and the next ones are tried.
    """
    left = fraction * sum(sizes.values())
    found = set()
    for name in sorted(shares, key=lambda one: -shares[one]):
        if shares[name] > 0 and sizes[name] <= left:
            found.add(name)
            left -= sizes[name]
    return found
