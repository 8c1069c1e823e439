"""Local-only training: every client fits its own model and nothing is ever sent.

The baseline that any federated method has to beat. It is FedSim without a shared
block, so its budget per participation is the same `work`.
"""

from dataclasses import dataclass
from typing import ClassVar

from .base import Sharing, algorithms
from .fedsim import FedSim


@algorithms.register("local")
@dataclass(frozen=True, kw_only=True)
class LocalOnly(FedSim):
    """SGD on the client's own model, from the common initial one."""

    sharing: ClassVar[Sharing] = "none"
