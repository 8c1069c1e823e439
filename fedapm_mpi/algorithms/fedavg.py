r"""FedAvg: every parameter is shared, and the participants' models are averaged.

.. math:: w^{t+1} = \sum_{i \in S} \alpha_i w_i \Big/ \sum_{i \in S} \alpha_i

It is FedSim without a personal block. Convergence theory is for SGD steps. The mean of
what an adaptive `optimizer` (Adam, say) does at each client need not vanish where the
mean gradient does, so the point of rest may be another (Wang et al., "Local adaptivity
in federated learning: convergence and consistency", arXiv 2106.02305, 2021).

Reference: McMahan et al., "Communication-efficient learning of deep networks from
decentralized data", AISTATS 2017, algorithm 1 (client weights n_i/n: set
``client_weights: samples``).
"""

from dataclasses import dataclass
from typing import ClassVar

from fedapm_mpi.algorithms.base import Sharing, algorithms
from fedapm_mpi.algorithms.fedsim import FedSim


@algorithms.register("fedavg")
@dataclass(frozen=True, kw_only=True)
class FedAvg(FedSim):
    """SGD on the whole model at the participants, then their weighted mean."""

    sharing: ClassVar[Sharing] = "all"
