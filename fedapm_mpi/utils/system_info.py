"""What this process runs on: commit, processor, versions of packages, memory."""

import platform
import resource
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def git_revision(root: Path) -> str | None:
    """Return the commit that is checked out, or `None` where there is no checkout.

    Reads the files itself: to start a process under MPI is not always safe.
    """
    try:
        head = (root / ".git" / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        loose = root / ".git" / reference
        if loose.exists():
            return loose.read_text("utf-8").strip()
        packed = (root / ".git" / "packed-refs").read_text("utf-8")
    except OSError:
        return None
    lines = [line.split() for line in packed.splitlines()]
    return next((a[0] for a in lines if a[-1:] == [reference]), None)


def processor_model() -> str:
    """Return this machine's processor, as exactly as Linux describes it.

    Two with the same vector instructions may still round a matrix product differently.
    """
    wanted = ("model name", "cpu family", "model", "stepping")
    found: dict[str, str] = {}
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in wanted:
                found.setdefault(key.strip(), value.strip())
            if len(found) == len(wanted):
                break
    name = found.pop("model name", platform.processor() or platform.machine())
    return ", ".join([name, *(f"{key} {value}" for key, value in found.items())])


def package_version(name: str) -> str | None:
    """Return the version of an installed package, or `None` if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def resident_memory() -> int:
    """Return the bytes that this process has in memory; see `peak_memory` if unknown.

    They are known on Linux.
    """
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return peak_memory()


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
