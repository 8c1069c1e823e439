"""Run ``python -m fedapm_mpi`` as the command ``fedapm``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
