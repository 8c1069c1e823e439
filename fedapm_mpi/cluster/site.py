"""Site profiles: the settings of a cluster, in a YAML file."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fedapm_mpi.utils.types import NonNegativeInt, PositiveInt, strict


@strict
@dataclass(frozen=True, kw_only=True)
class Site:
    """The settings of a cluster."""

    modules: list[str] = field(default_factory=list)
    """Modules to load."""

    setup: list[str] = field(default_factory=list)
    """Further lines of shell, run before anything is started."""

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
    """Value of srun's ``--mpi``."""

    cpus_per_task: PositiveInt = 1
    """Cores of each rank."""

    gpus_per_node: NonNegativeInt = 0
    """GPUs that jobs request on each node; its client ranks take them in turn."""

    gpu_bind: str | None = None
    """Value of srun's ``--gpu-bind``; by default ``none`` if there are GPUs, so that
    each rank sees all GPUs of its node."""

    scratch: str | None = None
    """Folder on a disk of each node, such as ``$TMPDIR``, to which data are copied."""

    signal_seconds: PositiveInt = 120
    """Seconds before the time limit at which ranks are signaled to stop; at most a
    quarter of the limit, so that there is time to train."""

    template: str | None = None
    """A template of job scripts to use instead; see ``fedapm slurm template``."""

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
    """Return a site profile; `None` for the one that ``FEDAPM_SITE`` names, if any.

    Relative paths in it are kept: they are relative to where a job is submitted.

    Raises
    ------
    ConfigError
        If it cannot be read, or has an unknown key or a wrong value.
    """
    if path is None:
        named = os.environ.get("FEDAPM_SITE")
        if not named:
            return Site()
        path = Path(named)
    from fedapm_mpi.config.loader import print_note, read_as

    return read_as(path, Site, "site", print_note)
