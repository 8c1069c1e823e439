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
        own = _git_folder(root / ".git")
        head = (own / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        # Branches are those of all work trees, in the folder that they share.
        shared = own
        with suppress(FileNotFoundError):
            shared = own / (own / "commondir").read_text("utf-8").strip()
        loose = shared / reference
        if loose.exists():
            return loose.read_text("utf-8").strip()
        packed = (shared / "packed-refs").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    lines = [line.split() for line in packed.splitlines()]
    return next((a[0] for a in lines if a[-1:] == [reference]), None)


def _git_folder(path: Path) -> Path:
    """Return the folder of a checkout, which a further work tree names in a file."""
    if not path.is_file():
        return path
    return path.parent / path.read_text("utf-8").removeprefix("gitdir: ").strip()


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
