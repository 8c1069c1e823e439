"""Folders that a failed block leaves behind only where they hold something."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def no_empty_folders(folder: Path) -> Iterator[None]:
    """Remove a folder and its parents if the block fails and leaves them empty.

    Folders that exist at the start stay. Several processes may use it on one folder,
    where all enter before one of them makes it: the last to leave removes it.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        raise
