"""Promises on imports; the directions of imports are contracts in pyproject.toml."""

import subprocess
import sys

from fedapm_mpi.algorithms import algorithms


def test_every_algorithm_can_be_listed():
    for name in algorithms.names():
        assert algorithms.get(name).sharing in ("split", "all", "none")


def test_importing_the_package_starts_nothing():
    code = (
        "import sys, fedapm_mpi\n"
        "sys.exit('torch' in sys.modules or 'mpi4py' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ranks_that_only_train_need_no_configuration_libraries():
    code = (
        "import sys, fedapm_mpi.training.runner, fedapm_mpi.cli.train\n"
        "sys.exit(any(name in sys.modules for name in "
        "('pydantic', 'ruamel', 'yaml', 'rich', 'matplotlib', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
