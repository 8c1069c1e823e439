"""Whether a file system's locks reach other hosts, from the mount table."""

from pathlib import Path

TABLE = Path("/proc/self/mountinfo")

LOCAL = ("beegfs", "9p", "virtiofs", "vboxsf", "fuse")
"""Beginnings of types that hosts may share, but whose locks may hold on one only."""

SHARED = (*LOCAL, "nfs", "lustre", "cifs", "smb3", "gpfs", "ceph", "wekafs", "pvfs2")
"""Beginnings of types that hosts share."""

UNESCAPED = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


def locks_reach_other_hosts(path: Path) -> bool:
    """Return whether every host that sees a file also sees locks on it.

    This holds for a disk of this host, and for network file systems whose server keeps
    the locks.
    """
    kind, options = _mount(path)
    if kind.startswith("nfs"):
        return not options & {"nolock", "local_lock=flock", "local_lock=all"}
    if kind == "lustre":
        return "flock" in options
    if kind in ("cifs", "smb3"):
        return "nobrl" not in options
    return not kind.startswith(LOCAL)


def is_shared(path: Path) -> bool:
    """Return whether other hosts may see the file system of a path."""
    return _mount(path)[0].startswith(SHARED)


def _mount(path: Path) -> tuple[str, frozenset[str]]:
    """Return the type and the options of the file system on which a path lies."""
    try:
        text = TABLE.read_text("utf-8", "surrogateescape")
    except OSError:
        return "", frozenset()
    where, best = path.resolve(), ("", frozenset[str]())
    deepest = -1
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        first, last = before.split(), after.split()
        if len(first) < 6 or len(last) < 3:
            continue
        point = first[4]
        for code, letter in UNESCAPED.items():
            point = point.replace(code, letter)
        depth = len(Path(point).parts)
        if where.is_relative_to(point) and depth >= deepest:
            options = f"{first[5]},{last[2]}".split(",")
            deepest, best = depth, (last[0], frozenset(options))
    return best
