"""What this process runs on."""

import os
import shutil
import subprocess

import pytest

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


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_further_work_tree(tmp_path):
    """By git itself, which makes the work tree."""
    git = [
        "git",
        "-C",
        str(tmp_path / "main"),
        "-c",
        "user.name=a",
        "-c",
        "user.email=b",
    ]
    subprocess.run(["git", "init", "-q", str(tmp_path / "main")], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    tree = tmp_path / "tree"
    subprocess.run([*git, "worktree", "add", "-q", "-b", "own", str(tree)], check=True)
    expected = subprocess.run(
        [*git, "rev-parse", "own"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert system_info.git_revision(tree) == expected
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    assert system_info.git_revision(tree) == expected
    subprocess.run(["git", "-C", str(tree), "checkout", "-q", "--detach"], check=True)
    assert system_info.git_revision(tree) == expected


def test_versions_of_packages():
    assert system_info.package_version("pytest")
    assert system_info.package_version("no-such-package") is None


def test_memory_and_processor():
    assert 2**20 < system_info.resident_memory() <= 1.1 * system_info.peak_memory()
    assert system_info.peak_memory() < os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    assert system_info.processor_model()
