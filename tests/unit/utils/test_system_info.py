"""What this process runs on."""

import os

from fedapm_mpi.utils import system_info
from tests.support import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_commit_of_a_checkout(tmp_path):
    git = tmp_path / ".git"
    assert system_info.git_revision(tmp_path) is None
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{COMMIT}\n")
    assert system_info.git_revision(tmp_path) == COMMIT
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert system_info.git_revision(tmp_path) is None
    (git / "packed-refs").write_text(f"# packed\n{COMMIT} refs/heads/main\n")
    assert system_info.git_revision(tmp_path) == COMMIT
    (git / "refs" / "heads" / "main").write_text("f" * 40 + "\n")
    assert system_info.git_revision(tmp_path) == "f" * 40
    assert system_info.git_revision(ROOT / "tests") is None


def test_versions_of_packages():
    assert system_info.package_version("pytest")
    assert system_info.package_version("no-such-package") is None


def test_memory_and_processor():
    assert 2**20 < system_info.resident_memory() <= 1.1 * system_info.peak_memory()
    assert system_info.peak_memory() < os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    assert system_info.processor_model()
