"""A machine to simulate, from its YAML file."""

from dataclasses import dataclass
from pathlib import Path

from fedapm_mpi.config import loader as configfile
from fedapm_mpi.utils.types import NonNegativeFloat, PositiveFloat, PositiveInt, strict

MAX_RANKS = 100_000_000
"""Maximum number of ranks, and of clients; each takes some bytes."""


@strict
@dataclass(frozen=True, kw_only=True)
class Platform:
    """Nodes and the network between them."""

    nodes: PositiveInt
    ranks_per_node: PositiveInt
    """With the server, on the first node."""

    latency_us: NonNegativeFloat
    """Microseconds from one rank to another."""

    bandwidth_GBps: PositiveFloat
    """10^9 bytes per second that a rank sends."""

    core_speed: PositiveFloat = 1.0
    """Speed of a core, relative to the measured machine's."""

    clients: PositiveInt | None = None
    """Clients of the run; `None` for those of the study."""

    rounds: PositiveInt | None = None
    """Rounds of the run; `None` for those of the study."""

    def __post_init__(self) -> None:
        if self.nodes * self.ranks_per_node < 2:
            msg = (
                "nodes and ranks_per_node give one rank; a run needs a server and a "
                "client rank"
            )
            raise ValueError(msg)
        for what, count in (("ranks", self.ranks), ("clients", self.clients or 0)):
            if count > MAX_RANKS:
                msg = f"{count} {what}: give at most {MAX_RANKS} to simulate"
                raise ValueError(msg)

    @property
    def ranks(self) -> int:
        """Number of ranks, with the server."""
        return self.nodes * self.ranks_per_node


def load(path: Path) -> Platform:
    """Read and validate the file of a platform.

    Raises
    ------
    ConfigError
        With a sentence for each error.
    """
    return configfile.read_as(path, Platform)
