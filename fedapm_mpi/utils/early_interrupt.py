"""Ctrl-C while the program is still being imported: a sentence, no traceback."""

import os
import sys

INTERRUPTED = 130
"""Exit code after a SIGINT without a checkpoint to resume: 128 plus its number."""

PROGRAMS = ("fedapm", "__main__.py", "-m")
"""What ``sys.argv[0]`` ends in where this package is the program."""


def watch() -> None:
    """Let an unhandled interrupt end the program with a sentence.

    This does nothing where another program imports this package.
    """
    if os.path.basename(sys.argv[0] if sys.argv else "") not in PROGRAMS:  # noqa: PTH119
        return
    before = sys.excepthook

    def hook(kind, error, traceback):  # type: ignore[no-untyped-def]
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, traceback)
            return
        try:
            os.write(2, b"fedapm: error: interrupted\n")
        finally:
            os._exit(INTERRUPTED)

    sys.excepthook = hook
