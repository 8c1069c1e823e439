"""The directions of import, and the promises that only reading the source can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fedapm_mpi

PACKAGE = Path(fedapm_mpi.__file__).parent
SCALING = (
    "draws", "fitting", "model", "predict", "simulate", "speedup", "statistics",
    "terms",
)  # fmt: skip
MATHEMATICS = [
    PACKAGE / "admm.py",
    PACKAGE / "space.py",
    PACKAGE / "split.py",
    PACKAGE / "problem.py",
    PACKAGE / "batching.py",
    PACKAGE / "buffers.py",
    PACKAGE / "outputs.py",
    PACKAGE / "metrics.py",
    PACKAGE / "dealing.py",
    PACKAGE / "seeding.py",
    PACKAGE / "napping.py",
    *(PACKAGE / "scaling" / f"{name}.py" for name in SCALING),
    *sorted((PACKAGE / "algorithms").glob("*.py")),
    *sorted((PACKAGE / "models").glob("*.py")),
    *sorted((PACKAGE / "participation").glob("*.py")),
    *sorted((PACKAGE / "placements").glob("*.py")),
]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            found |= {f"{dots}{node.module or ''}"}
            found |= {f"{dots}{node.module or ''}.{a.name}" for a in node.names}
    return found


def roots(path: Path) -> set[str]:
    return {name.lstrip(".").split(".")[0] for name in imports(path)}


def users_of(library: str) -> list[str]:
    every = [p for p in PACKAGE.rglob("*.py") if library in roots(p)]
    return sorted(str(p.relative_to(PACKAGE)) for p in every)


def test_one_module_imports_mpi():
    assert users_of("mpi4py") == ["comm/mpi.py"]


def test_one_module_opens_hdf5():
    assert len(users_of("h5py")) == 1


@pytest.mark.parametrize("path", MATHEMATICS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_mathematics_knows_no_ranks_files_or_command_line(path):
    for name in (
        "comm",
        "mpi4py",
        "h5py",
        "shards",
        "manifest",
        "cli",
        "recorder",
        "checkpoint",
        "session",
        "experiment",
        "configfile",
        "pathlib",
        "os",
    ):
        assert name not in roots(path)


def test_communication_knows_no_mathematics():
    for path in (PACKAGE / "comm").glob("*.py"):
        assert not roots(path) & {"torch", "algorithms", "models", "split", "admm"}


def test_every_algorithm_can_be_listed():
    from fedapm_mpi.algorithms import algorithms

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


def test_one_module_reads_yaml():
    assert users_of("ruamel") == ["yamlfile.py"]
    assert users_of("yaml") == []
