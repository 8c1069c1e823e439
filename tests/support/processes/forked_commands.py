"""Run ``fedapm`` commands in forked children of a process that has loaded everything.

Each line of stdin is a JSON object: ``words``, ``cwd``, ``env``, and the files
``stdout`` and ``stderr``. The answer to each is a line with the child's exit code. The
parent never starts MPI; a child does, as one process without a launcher does.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

# MPI that has been started cannot be shared by children.
os.environ["MPI4PY_RC_INITIALIZE"] = "0"

import fedapm_mpi.cli.doctor
import fedapm_mpi.comm.mpi
import fedapm_mpi.doctor.runner
import fedapm_mpi.training.runner  # noqa: F401
from fedapm_mpi.cli.main import main


def run(request: dict[str, Any]) -> int:
    """Return the exit code of a forked child; negative for a signal."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        for descriptor, kind in ((1, "stdout"), (2, "stderr")):
            with Path(request[kind]).open("wb") as file:
                os.dup2(file.fileno(), descriptor)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        code = main(request["words"])
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        answer = f"{run(json.loads(line))}\n"
        os.write(1, answer.encode())
