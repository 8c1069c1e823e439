"""The key that is read before all others."""

import os
import subprocess
import sys

import pytest

from fedapm_mpi.config.early_keys import kernels_of


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("data: x\nkernels: portable\nmodel: mlp\n")
    return path


def test_of_a_file_and_of_overrides(file):
    assert kernels_of(file) == "portable"
    assert kernels_of(str(file), ["rounds=2"]) == "portable"
    assert kernels_of(file, ["kernels=native"]) == "native"
    assert kernels_of(file, ["kernels=native", "kernels=portable"]) == "portable"
    assert kernels_of(None, ["kernels=portable"]) == "portable"
    assert kernels_of(None) == "native"


@pytest.mark.parametrize("text", ["kernels: [portable]", "- 1", ":", "kernels: 3", ""])
def test_what_is_not_valid_is_left_to_the_reader_of_all_keys(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert kernels_of(path) == "native"


def test_what_cannot_be_read_too(tmp_path):
    assert kernels_of(tmp_path / "none.yaml") == "native"
    assert kernels_of(tmp_path) == "native"
    assert kernels_of("a" * 5000) == "native"
    assert kernels_of(None, ["kernels"]) == "native"


def test_a_pipe_is_not_emptied():
    reading, writing = os.pipe()
    os.write(writing, b"kernels: portable\n")
    os.close(writing)
    assert kernels_of(f"/dev/fd/{reading}") == "native"
    assert os.read(reading, 100) == b"kernels: portable\n"
    os.close(reading)


def test_neither_numpy_nor_torch_is_loaded_for_it(file):
    code = (
        "import sys, fedapm_mpi.cli.main, fedapm_mpi.cli.train, fedapm_mpi.cli.split\n"
        "import fedapm_mpi.cli.tune, fedapm_mpi.comm.runtime, fedapm_mpi.comm.serial\n"
        "import fedapm_mpi.cli.prepare, fedapm_mpi.cli.extract\n"
        "from fedapm_mpi.config.early_keys import kernels_of\n"
        f"assert kernels_of({str(file)!r}, ['rounds=2']) == 'portable'\n"
        "found = [n for n in ('numpy', 'torch') if n in sys.modules]\n"
        "sys.exit(f'loaded: {found}' if found else 0)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
