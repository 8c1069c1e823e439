"""Run the ``fedapm`` commands in FOLDER/commands.json; see `training.train_many`."""

import json
import os
import sys
from pathlib import Path

from fedapm_mpi.cli.main import main
from fedapm_mpi.comm.launch_env import launched_rank

folder, rank = Path(sys.argv[1]), launched_rank()
for name, words in json.loads((folder / "commands.json").read_text()).items():
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for descriptor, kind in ((1, "stdout"), (2, "stderr")):
        with (folder / f"{name}.{kind}.{rank}").open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    code = main(words)
    (folder / f"{name}.code.{rank}").write_text(str(code))
