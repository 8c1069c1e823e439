"""A machine that a run is planned for, as a person writes it in one file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from fedapm_mpi.config import loader as configfile
from fedapm_mpi.config.schema import STRICT, PositiveInt

MAX_NODES = 100_000_000
"""Ranks, and clients, that a simulation may have; each takes some bytes."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """Nodes and the network between them."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    nodes: PositiveInt
    ranks_per_node: PositiveInt
    """The server is one of the first node's."""

    latency_us: Annotated[float, Ge(0)]
    """Microseconds from one rank to another."""

    bandwidth_GBps: Annotated[float, Gt(0)]
    """Gigabytes a second, 10^9 bytes, that a rank sends."""

    core_speed: Annotated[float, Gt(0)] = 1.0
    """How many times as fast a core is as one of the machine that was measured."""

    clients: PositiveInt | None = None
    """Clients of the run; `None` for those of the study."""

    rounds: PositiveInt | None = None
    """Rounds of the run; `None` for those of the study."""

    def __post_init__(self) -> None:
        if self.nodes * self.ranks_per_node < 2:
            msg = "nodes and ranks_per_node give one rank, but a server needs another"
            raise ValueError(msg)
        for what, count in (("ranks", self.ranks), ("clients", self.clients or 0)):
            if count > MAX_NODES:
                msg = f"{count} {what}: at most {MAX_NODES} can be simulated"
                raise ValueError(msg)

    @property
    def ranks(self) -> int:
        """Ranks in all."""
        return self.nodes * self.ranks_per_node


def load(path: Path) -> Platform:
    """Read and validate a platform's file.

    Raises
    ------
    ConfigError
        With a sentence for everything that is wrong.
    """
    return configfile.read_as(path, Platform)
