"""Findings, and the observations that they follow from."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fedapm_mpi.doctor.preflight import InstalledLaunchers
from fedapm_mpi.doctor.rank_info import RankInfo
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.kernels import NATIVE

Level = Literal["fault", "warning", "note"]
LEVELS: tuple[Level, ...] = ("fault", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """A problem, and its remedy."""

    level: Level
    """``fault``: training fails or is wrong; ``warning``: it is slower or at risk;
    ``note``: it may be."""

    name: str
    """Kind of finding."""

    what: str
    """What is wrong, and where."""

    remedy: str
    """What to do about it."""

    about: Literal["environment", "data"] = "environment"

    def __str__(self) -> str:
        return f"{self.level}: {self.what}; {self.remedy}"

    def plain(self) -> dict[str, str]:
        """Return this as plain values; the remedy's key, `mend`, is of the format."""
        values = asdict(self)
        return {("mend" if key == "remedy" else key): values[key] for key in values}


@dataclass(frozen=True, kw_only=True)
class FilesystemReport:
    """Observations of one rank in the folder that all should share."""

    refused: str | None = None
    """Why this rank cannot write there."""

    seconds: float | None = 0.0
    """Until it saw what rank 0 wrote; `None` if it never did."""

    renamed: float | None = 0.0
    """Until it saw what rank 0 put in its place; `None` if it never did."""

    lock: Literal["seen", "not seen", "none"] = "seen"
    """Whether a lock of rank 0 kept this rank out; ``none`` without file locks."""

    hdf5: str | None = None
    """Why this rank cannot open an HDF5 file together with the others."""


@dataclass(frozen=True, kw_only=True)
class ShardFault:
    """A shard that one rank found missing, damaged or locked."""

    shard: str
    kind: Literal["missing", "other", "locked", "no locks"]
    text: str


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """Observations of one rank on a data set."""

    rank: int = 0
    manifest: str | None = None
    """SHA-256 of the manifest on its host; `None` if there is none."""

    looked: bool = True
    """Whether this rank looked for the manifest, for all ranks of its node."""

    folder: bool = True
    """Whether its host has the directory."""

    shards: int = 0
    """Number of shards that this rank checked."""

    faults: list[ShardFault] = field(default_factory=list)
    sample_bytes: int = 0
    """Bytes that the samples of its node's clients take in memory."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Observations of all ranks on a data set."""

    directory: str
    sha256: str | None = None
    error: str | None = None
    """Why rank 0 cannot read its manifest."""

    seen: list[DataReport] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class CollectiveTimings:
    """Results and times of collectives."""

    wrong: list[str] = field(default_factory=list)
    """One sentence for each wrong result."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Median time of a small collective, by name."""

    bytes_per_second: dict[str, float] = field(default_factory=dict)
    """Median rate of a large one, by name."""

    megabytes: float = 0.0
    """Size of the large ones."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """All observations; what was not observed is `None` or empty."""

    ranks: Sequence[RankInfo]
    launchers: InstalledLaunchers = field(default_factory=InstalledLaunchers)
    threads: int | None = None
    """Threads of a rank by the configuration."""

    device: str = "cpu"
    kernels: str = NATIVE
    scratch: str | None = None
    folder: str = ""
    shared: Sequence[FilesystemReport] | None = None
    measured: CollectiveTimings | None = None
    clocks: Sequence[float] | None = None
    """Seconds by which each rank's clock is ahead of rank 0's."""

    data: Sequence[DataSet] = ()

    def host(self, rank: int) -> str:
        """Return the host of a rank."""
        return self.ranks[rank].host

    def nodes(self) -> dict[int, list[RankInfo]]:
        """Return the ranks of each node."""
        found: dict[int, list[RankInfo]] = {}
        for one in self.ranks:
            found.setdefault(one.node, []).append(one)
        return found

    def workers(self, ranks: Iterable[RankInfo]) -> list[RankInfo]:
        """Return the ranks that train: all but the server, unless it is alone."""
        alone = len(self.ranks) == 1
        return [one for one in ranks if one.rank > 0 or alone]


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 without a fault, 2 with one of the environment, else 3."""
    about = {one.about for one in findings if one.level == "fault"}
    if "environment" in about:
        return ConfigError.exit_code
    return DataError.exit_code if about else 0


def names(items: Iterable[Any], most: int = 4) -> str:
    """Return the first distinct names, and how many more there are."""
    every = list(dict.fromkeys(map(str, items)))
    shown = every[:most]
    left = len(every) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def numbers(values: Iterable[int]) -> str:
    """Return whole numbers as ranges: ``0-2, 5``; – for none."""
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "–"
