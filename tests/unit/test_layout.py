"""The tests mirror the package: a module of some length has a file of its own."""

import ast
from pathlib import Path

from tests.support import ROOT, TESTS

PACKAGE = ROOT / "fedapm_mpi"
UNIT = TESTS / "unit"
MAX_LINES = 60
"""Lines of a module up to which its tests may stand anywhere."""

KINDS = {
    "doctor/checks": "doctor/test_checks.py",
    "optim/optimizers": "optim/test_optimizers.py",
    "optim/schedules": "optim/test_schedules.py",
    "models": "models/test_models.py",
    "participation": "participation/test_participation.py",
    "placements": "federation/test_assignment.py",
}
"""Packages of plug-ins of one kind, which share a file of what holds for all."""

ELSEWHERE = {
    "cluster/slurm/submit.py": "slurm/test_submit.py",
    "comm/mpi.py": "mpi/test_collectives.py",
    "doctor/probes/collectives.py": "e2e/test_doctor_on_ranks.py",
    "doctor/probes/data.py": "e2e/test_doctor_on_ranks.py",
    "doctor/probes/filesystem.py": "e2e/test_doctor_on_ranks.py",
    "doctor/runner.py": "e2e/test_doctor_on_ranks.py",
    "studies/scaling/model_report.py": "e2e/test_scaling.py",
    "studies/scaling/plots.py": "e2e/test_scaling.py",
    "studies/scaling/simulate_report.py": "e2e/test_scaling.py",
    "studies/scaling/tables.py": "e2e/test_scaling.py",
    "training/outputs.py": "e2e/test_resume.py",
    "training/resume.py": "e2e/test_resume.py",
    "training/runner.py": "e2e/test_resume.py",
}
"""Modules that are tested end to end, on ranks or a cluster, by the file that does."""


MAX_FUNCTION = 60
"""Lines of a function of the package, with its docstring."""


def modules() -> list[Path]:
    """Return the modules over the limit, relative to the package."""
    found = sorted(PACKAGE.rglob("*.py"))
    return [
        path.relative_to(PACKAGE)
        for path in found
        if path.name != "__init__.py" and len(path.read_text().splitlines()) > MAX_LINES
    ]


def expected_file(module: Path) -> Path:
    """Return the file in which the tests of a module belong."""
    return UNIT / module.parent / f"test_{module.stem.lstrip('_')}.py"


def test_every_module_has_its_tests():
    missing = []
    for module in modules():
        shared = KINDS.get(str(module.parent))
        known = [expected_file(module)]
        known += [UNIT / shared] if shared else []
        if str(module) in ELSEWHERE:
            known.append(TESTS / ELSEWHERE[str(module)])
        if not any(path.exists() for path in known):
            missing.append(f"{module} -> {expected_file(module).relative_to(ROOT)}")
    assert not missing, (
        f"{len(missing)} modules of fedapm_mpi over {MAX_LINES} lines have no tests "
        "of their own; write them there, or, if a module is tested end to end, name "
        f"the file in ELSEWHERE of {Path(__file__).name}:\n" + "\n".join(missing)
    )


def test_no_exception_is_left_over():
    known = {str(module) for module in modules()}
    for module, path in ELSEWHERE.items():
        assert (TESTS / path).exists(), f"there is no tests/{path}"
        assert module in known, f"{module} is gone or short: remove it from ELSEWHERE"
    for package, path in KINDS.items():
        assert (PACKAGE / package).is_dir(), f"there is no package {package}"
        assert (UNIT / path).exists(), f"there is no tests/unit/{path}"


def test_every_file_of_tests_has_a_test():
    for path in sorted(UNIT.rglob("test_*.py")):
        names = [node.name for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.FunctionDef)]  # fmt: skip
        assert any(name.startswith("test_") for name in names), path


def test_functions_fit_on_a_screen():
    long = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION:
                    where = path.relative_to(ROOT)
                    long.append(f"{where}:{node.lineno} {node.name}: {lines} lines")
    assert not long, f"over {MAX_FUNCTION} lines:\n" + "\n".join(long)
