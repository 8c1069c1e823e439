"""What the libraries report is what the configuration asks for."""

import subprocess
import sys

import pytest
from torch import nn

from fedapm_mpi.engine import kernels as reported
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils import kernels

needs_avx2 = pytest.mark.skipif(
    kernels.processor_lacks() is not None, reason="the processor lacks AVX2"
)


@pytest.fixture
def in_force(monkeypatch):
    """Let the switches count as set, whatever this process was started with."""
    monkeypatch.setattr(kernels, "_here", True)
    monkeypatch.setattr(kernels, "processor_lacks", lambda: None)
    monkeypatch.setattr(reported, "replace_functions", lambda: None)


def test_native_needs_nothing():
    reported.open_kernels("native")


def test_portable_is_refused_where_switches_came_too_late(monkeypatch):
    monkeypatch.setattr(kernels, "processor_lacks", lambda: None)
    monkeypatch.setattr(kernels, "in_force", lambda: False)
    with pytest.raises(ConfigError, match="chosen before numpy and torch are imported"):
        reported.open_kernels("portable")


def test_portable_is_refused_on_another_processor(monkeypatch):
    monkeypatch.setattr(kernels, "processor_lacks", lambda: "needs another")
    with pytest.raises(ConfigError, match=r"needs another \(host .*\); leave"):
        reported.open_kernels("portable")


def test_portable_is_refused_without_mkl(monkeypatch, in_force):
    monkeypatch.setattr(reported.torch.backends.mkl, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="a torch with MKL"):
        reported.open_kernels("portable")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("mkl_branch", "AUTO, vector functions 0", "MKL uses AUTO"),
        ("mkl_branch", None, "MKL uses what it does not say"),
        ("numpy_features", ["X86_V3", "AVX512_ICL"], "NumPy uses AVX512_ICL"),
    ],
)
def test_a_library_that_does_not_follow_is_named(
    monkeypatch, in_force, name, value, text
):
    monkeypatch.setattr(reported.torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(
        reported.torch.backends.cpu, "get_cpu_capability", lambda: "AVX2"
    )
    monkeypatch.setattr(reported, "mkl_branch", lambda: reported.MKL_BRANCH)
    monkeypatch.setattr(reported, "numpy_features", lambda: ["X86_V3"])
    reported.open_kernels("portable")
    monkeypatch.setattr(reported, name, lambda: value)
    with pytest.raises(ConfigError, match=text):
        reported.open_kernels("portable")


def test_a_native_run_is_refused_in_a_portable_process(in_force):
    with pytest.raises(ConfigError, match="native cannot be used in a process"):
        reported.open_kernels("native")


def test_what_is_recorded(monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "AUTO")
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    found = reported.kernels_in_use("native")
    assert found["kernels"] == "native"
    assert found["switches"]["MKL_CBWR"] == "AUTO"
    assert found["switches"]["MKL_ENABLE_INSTRUCTIONS"] == "AVX2"
    assert found["torch_capability"]


@needs_avx2
def test_the_libraries_follow_the_switches():
    code = (
        "import fedapm_mpi\n"
        "fedapm_mpi.use_portable_kernels()\n"
        "from fedapm_mpi.engine.kernels import kernels_in_use, open_kernels\n"
        "open_kernels('portable')\n"
        "found = kernels_in_use('portable')\n"
        "assert found['torch_capability'] == 'AVX2', found\n"
        "assert found['mkl_branch'] == 'COMPATIBLE, vector functions 3', found\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_a_layer_that_onednn_computes_with_a_fault_is_named(channels):
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, 8, 1, stride=2))
    with pytest.raises(ConfigError, match=f"layer 1 is a .* of {channels} channels"):
        reported.check_layers([nn.Linear(2, 2), net])
    with pytest.raises(ConfigError, match="layer of the model"):
        reported.check_layers([net[1]])


def test_other_layers_pass():
    reported.check_layers(
        [
            nn.Conv2d(8, 16, 1, stride=2),
            nn.Conv2d(1, 8, 1, stride=2),
            nn.Conv2d(4, 8, 1),
            nn.Conv2d(4, 8, 3, stride=2),
            nn.Conv1d(4, 8, 1, stride=2),
        ]
    )
