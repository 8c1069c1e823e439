"""The process that holds a run directory's lock, and whether it is alive."""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedapm_mpi.utils.atomic_io import open_regular

JOB_VARIABLES = {"SLURM_JOB_ID": "SLURM", "PBS_JOBID": "PBS", "LSB_JOBID": "LSF"}
"""Environment variables with the number of a scheduler's job."""

MAX_LOCK_FILE_BYTES = 4096
"""Bytes that are read of a lock file."""


@dataclass(frozen=True)
class Holder:
    """Identity of a process: enough to find it again and to mistake no other for it."""

    host: str
    pid: int
    job: str
    """The scheduler's job; empty without one."""

    restart: int
    """How many times the scheduler had restarted the job."""

    since: str
    """When it took the lock."""

    ticks: str
    """When the process started, in the kernel's clock ticks; it differs for a later
    process with the same number."""

    boot: str
    """Boot of the host's kernel, and namespace of process numbers."""

    @classmethod
    def current(cls) -> "Holder":
        """Return this process."""
        names = {name: os.environ.get(key, "") for key, name in JOB_VARIABLES.items()}
        job = next((f"{name} {job}" for name, job in names.items() if job), "")
        restart = os.environ.get("SLURM_RESTART_COUNT", "")
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            job=job[:100],
            restart=int(restart) if restart.isdecimal() and len(restart) < 9 else 0,
            since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            ticks=_ticks(os.getpid()) or "",
            boot=_boot(),
        )

    @classmethod
    def read(cls, path: Path) -> "Holder | None":
        """Return the holder that a lock file names; `None` if it names none."""
        try:
            with open_regular(path) as file:
                values = json.loads(file.read(MAX_LOCK_FILE_BYTES).decode("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return cls(**values) if _is_holder(values) else None

    def write(self, descriptor: int) -> None:
        """Overwrite an open lock file with this holder."""
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(asdict(self)) + "\n").encode(), 0)
        os.fsync(descriptor)

    @property
    def is_here(self) -> bool:
        """Whether its process is, or was, one that can be seen from this one."""
        return self.host == socket.gethostname() and self.boot == _boot() != ""

    @property
    def is_alive(self) -> bool | None:
        """Whether its process is alive; `None` if that cannot be seen from here."""
        return _ticks(self.pid) == self.ticks if self.is_here else None

    @property
    def superseded(self) -> bool:
        """Whether it is an earlier start of this very job, which the scheduler ends."""
        me = Holder.current()
        return self.job != "" and self.job == me.job and self.restart < me.restart

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job} since {self.since}"


def _is_holder(values: Any) -> bool:
    fields: Mapping[str, type] = Holder.__annotations__
    if not isinstance(values, dict) or set(values) != set(fields):
        return False
    if any(type(values[name]) is not kind for name, kind in fields.items()):
        return False
    texts = [value for value in values.values() if isinstance(value, str)]
    return 0 < values["pid"] < 2**31 and all(
        len(text) <= 200 and text.isprintable() for text in texts
    )


def _ticks(pid: int) -> str | None:
    """Return when a process started, in ticks since the host did; `None` if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    words = text.rpartition(")")[2].split()  # the name before may hold anything
    dead = len(words) < 20 or words[0] in ("Z", "X")
    return None if dead else words[19]


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
