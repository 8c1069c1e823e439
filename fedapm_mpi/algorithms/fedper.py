r"""FedPer: shared base layers and personal last layers, trained together by SGD.

A participant starts from the broadcast base layers u and its own personalisation layers
v_i, and each step moves both,

.. math:: (v_i, u_i) \leftarrow (v_i, u_i) - \eta \nabla f_i(v_i, u_i);

the server averages the u_i, by client weight (n_i/n in the paper: set
``client_weights: samples``), over the participants (in the paper that is everybody).
All clients start from one model; the paper lets each draw its own last layers.

In structure it is FedSim, which came later and lets any parameters be the personal
ones: with the same options both do the same, bit for bit.

The paper has no convergence theory; what FedSim says of an `optimizer` other than SGD
holds here.

Reference: Arivazhagan, Aggarwal, Singh and Choudhary, "Federated learning with
personalization layers", arXiv 1912.00818, 2019, algorithms 1 and 2.
"""

from dataclasses import dataclass

from fedapm_mpi.algorithms.base import algorithms
from fedapm_mpi.algorithms.fedsim import FedSim


@algorithms.register("fedper")
@dataclass(frozen=True, kw_only=True)
class FedPer(FedSim):
    """Joint SGD on base and personalisation layers, then a mean of the base."""
