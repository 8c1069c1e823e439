"""Who holds the lock of a run directory, and whether that process still lives."""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedapm_mpi.utils.atomic_io import open_regular

JOBS = {"SLURM_JOB_ID": "SLURM", "PBS_JOBID": "PBS", "LSB_JOBID": "LSF"}
"""Variables in which schedulers tell a job its number."""

MAX_NAME_LENGTH = 4096
"""Bytes of a lock file that are read."""


@dataclass(frozen=True)
class Holder:
    """A process, so that it can be found again and is not taken for another."""

    host: str
    pid: int
    job: str
    """Of the scheduler, empty without one."""

    restart: int
    """How often the scheduler had started the job before."""

    since: str
    """When it took the lock."""

    ticks: str
    """When the process started, in the kernel's words; a later one with the same
    number differs."""

    boot: str
    """Which start of the host's kernel, and which container of process numbers."""

    @classmethod
    def me(cls) -> "Holder":
        """Return this process."""
        names = {name: os.environ.get(key, "") for key, name in JOBS.items()}
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
                values = json.loads(file.read(MAX_NAME_LENGTH).decode("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return cls(**values) if _is_holder(values) else None

    def write(self, descriptor: int) -> None:
        """Write it into an open lock file, in place of what is in it."""
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(asdict(self)) + "\n").encode(), 0)
        os.fsync(descriptor)

    @property
    def is_here(self) -> bool:
        """Whether its process is, or was, one that can be seen from this one."""
        return self.host == socket.gethostname() and self.boot == _boot() != ""

    @property
    def is_alive(self) -> bool | None:
        """Whether its process lives; `None` if that cannot be seen from here."""
        return _ticks(self.pid) == self.ticks if self.is_here else None

    @property
    def superseded(self) -> bool:
        """Whether it is an earlier start of this very job, which the scheduler ends."""
        me = Holder.me()
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
