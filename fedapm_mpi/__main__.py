"""Run ``python -m fedapm_mpi`` as the command ``fedapm``."""

import sys

from fedapm_mpi.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
