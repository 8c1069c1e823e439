"""What differs from cluster to cluster, in one small file: a site profile."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fedapm_mpi.utils.types import NonNegativeInt, PositiveInt, strict


@strict
@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster, as jobs see it."""

    modules: list[str] = field(default_factory=list)
    """Modules to load."""

    setup: list[str] = field(default_factory=list)
    """Further lines of shell, before anything is started."""

    venv: str | None = None
    """Virtual environment of jobs; `None` for the Python that submits them."""

    container: str | None = None
    """Apptainer image in which ranks run; the launcher is the cluster's."""

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None

    mem: str | None = None
    """Memory of each node, such as 64G."""

    options: list[str] = field(default_factory=list)
    """Further options of sbatch, such as ``--exclusive``."""

    launcher: str = "auto"
    """As for ``fedapm launch --launcher``."""

    mpi_type: str = "auto"
    """What ``srun --mpi`` gets."""

    cpus_per_task: PositiveInt = 1
    """Cores of each rank."""

    gpus_per_node: NonNegativeInt = 0
    """GPUs that jobs ask for; the training ranks of a node take them in turn."""

    gpu_bind: str | None = None
    """What ``srun --gpu-bind`` gets; with GPUs ``none`` unless given, so that each rank
    sees all of its node's."""

    scratch: str | None = None
    """Folder on a disk of each node, such as ``$TMPDIR``, to which data are copied."""

    signal_seconds: PositiveInt = 120
    """Seconds before the time limit at which ranks are told to stop; at most a quarter
    of the limit, so that there is time to train."""

    template: str | None = None
    """Your own template of job scripts; see ``fedapm slurm template``."""

    def __post_init__(self) -> None:
        for option in self.options:
            if not option.startswith("-"):
                msg = f"options: {option!r} is no option of sbatch, such as --exclusive"
                raise ValueError(msg)

    @property
    def python(self) -> str:
        """The Python that jobs run on."""
        return sys.executable if self.venv is None else f"{self.venv}/bin/python"


def read_site(path: Path | None) -> Site:
    """Return a site profile; `None` is that which ``FEDAPM_SITE`` names, or no file.

    Relative paths in it are kept: they count from where a job is submitted.

    Raises
    ------
    ConfigError
        If it cannot be read, or says what is not known.
    """
    if path is None:
        named = os.environ.get("FEDAPM_SITE")
        if not named:
            return Site()
        path = Path(named)
    from fedapm_mpi.config.loader import print_note, read_as

    return read_as(path, Site, "site", print_note)
