r"""The Lagrange multiplier test of what clients should share; see ``docs/method.md``.

The multiplier of the constraint :math:`u_i = u` is :math:`\pi_i = -s_i` at rest, with
:math:`s_i` the mean gradient of client i's loss in the shared block. Where its n_i
samples follow the shared model, :math:`s_i` is sampling noise with variance
:math:`F/n_i`, F the Fisher information of one sample. Of a layer of d parameters that
m clients hold, with :math:`\bar s` the mean of :math:`s_i` by :math:`n_i`,

.. math:: \mathrm{LM} = \sum_{j=1}^d w_j \, \frac1{m-1}
          \sum_{i=1}^m \frac{n_i (s_{ij} - \bar s_j)^2}{F_j} \Big/ \sum_{j=1}^d w_j,
          \qquad w_j = \frac{F_j}{F_j + \lambda \bar F},

:math:`\bar F` the layer's mean of F, is then 1 in expectation, for every damping
:math:`\lambda`, and larger where clients' expected gradients differ.

References: Aitchison and Silvey, Annals of Mathematical Statistics 29, 1958 (multiplier
form); Rao, Proceedings of the Cambridge Philosophical Society 44, 1948 (score form);
Breusch and Pagan, Review of Economic Studies 47, 1980; Satterthwaite, Biometrics
Bulletin 2, 1946 (degrees of freedom of a weighted sum).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fedapm_mpi.optim.layer_test import DAMPING, LayerTest

NEGLIGIBLE = 1e-12
"""Part of the largest Fisher entry below which another is rounding noise: a gradient a
millionth as large. In float32 that of a parameter without effect, such as a bias ahead
of a softmax that all its terms have in common, is smaller still, but not 0."""


class GradientSums(NamedTuple):
    """Sums over clients of what the test needs of them, by parameter; each (d,)."""

    mean_square: Tensor
    """Of the mean squared per-sample gradient: m times the Fisher diagonal F."""

    weighted: Tensor
    """Of the samples times the mean gradient, n_i s_i."""

    weighted_square: Tensor
    """Of the samples times its square, n_i s_i^2."""


class Holders(NamedTuple):
    """Who holds a layer, of those that have samples."""

    clients: int
    samples: int


def terms(mean: Tensor, mean_square: Tensor, samples: int) -> Tensor:
    """Return what a client adds to each of the sums, (3, d), in float64.

    Parameters
    ----------
    mean : (d,)
        Its mean gradient :math:`s_i` in the shared block, at the server's u and its own
        personal block.
    mean_square : (d,)
        Its mean squared per-sample gradient.
    samples
        Its samples :math:`n_i`.
    """
    s, q = mean.double(), mean_square.double()
    return torch.stack([q, samples * s, samples * s.square()])


def multiplier_test(
    sums: GradientSums,
    layers: Mapping[str, slice],
    holders: Mapping[str, Holders],
    damping: float = DAMPING,
) -> dict[str, LayerTest]:
    r"""Return the test of each layer that at least two clients with samples hold.

    Parameters
    ----------
    sums
        Sums over clients, each (d,).
    layers
        Places of the layers in the shared block, by name; none may be empty.
    holders
        Who holds each of them.
    damping
        :math:`\lambda`, from 0 on. With 0 every parameter counts alike, also one
        without almost any gradient; with a large one parameters count by :math:`F_j`.

    Raises
    ------
    ValueError
        If a layer is empty.
    """
    found = {}
    least = NEGLIGIBLE * float(sums.mean_square.max()) if len(sums.mean_square) else 0.0
    for name, place in layers.items():
        m, n = holders[name]
        fisher = sums.mean_square[place].double() / max(1, m)
        if not len(fisher):
            msg = f"the layer {name!r} has no parameters"
            raise ValueError(msg)
        if m < 2:
            continue
        spread = sums.weighted_square[place] - sums.weighted[place].square() / n
        damped = fisher + damping * fisher.mean()
        # A parameter without a gradient says nothing: its weight is 0.
        known = sums.mean_square[place] > least
        weights = torch.where(known, fisher / damped, 0.0)
        terms = torch.where(known, spread.clamp(min=0) / damped, 0.0)
        total, squares = float(weights.sum()), float(weights.square().sum())
        lm = float(terms.sum()) / (m - 1) / total if total else 0.0
        size = total**2 / squares if squares else 0.0
        found[name] = LayerTest(len(fisher), m, lm, size)
    return found
