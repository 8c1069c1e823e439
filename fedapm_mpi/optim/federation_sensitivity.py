r"""The rule of PLayer-FL: share the first layers, up to where sensitivity rises.

After each client has trained for an epoch on its own, from one start, layer k with
:math:`d_k` parameters has the importance of first-order pruning. The sensitivity of
layer l is the sum up to it, since a layer is shared with all before it:

.. math:: I_k = \frac1{d_k} \sum_{p=1}^{d_k} (\theta_p \nabla_p)^2, \qquad
          F_l = \sum_{k=1}^l I_k

with :math:`\nabla` the gradient of the client's loss at its :math:`\theta`. Over the
layers F rises slowly, then fast; layers are shared up to the transition.

Reference: Elhussein and Gürsoy, PLayer-FL: a principled approach to personalized
layer-wise cross-silo federated learning, arXiv 2502.08829, MLSys 2026, and
github.com/gaiters-aerials/player_fl.

What differs here: the gradient is that of all of a client's samples, the authors' that
of a batch. Importances are averaged over clients before they are compared. The paper
compares the sensitivities of adjacent layers with a threshold; its value is neither in
the abstract nor in the authors' code, which has the chosen layers as constants.
`THRESHOLD` is our choice.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from torch import Tensor

THRESHOLD = 2.0
"""Ratio of adjacent sensitivities at the transition: with 2, the layer adds more than
all layers before it."""


def layer_importance(
    parameters: Tensor, gradient: Tensor, layers: Mapping[str, Sequence[slice]]
) -> dict[str, float]:
    r"""Return the importance :math:`I_k` of each layer of a client's model.

    Parameters
    ----------
    parameters : (d,)
        The client's parameters.
    gradient : (d,)
        Gradient of its mean loss there.
    layers
        Places of each layer's parameters, by name; together at least one parameter.
        The authors leave biases out.
    """
    terms = (parameters.double() * gradient.double()).square()
    return {
        name: sum(float(terms[place].sum()) for place in places)
        / sum(len(terms[place]) for place in places)
        for name, places in layers.items()
    }


def federation_sensitivity(importances: Sequence[float]) -> list[float]:
    """Return the sensitivities of layers, from importances in the model's order."""
    return list(accumulate(importances))


def shared_layers(sensitivities: Sequence[float], threshold: float = THRESHOLD) -> int:
    """Return how many of the first layers to share.

    Those before the first layer whose sensitivity is more than `threshold` times that
    of the layer before; all, if there is none. The first layer is always shared, and
    what follows layers without any gradient is compared from the next one on.
    """
    for k, (before, own) in enumerate(pairwise(sensitivities), start=1):
        if 0 < threshold * before < own:
            return k
    return len(sensitivities)
