"""One digest, whatever instructions the environment asks for."""

import json

import numpy as np
import pytest

from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.utils import kernels
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import (
    digest_of,
    experiment,
    fedapm,
    train,
    user_path,
    write_config,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        kernels.processor_lacks() is not None, reason="the processor lacks AVX2"
    ),
]

OTHER_LEVELS = {
    "MKL_CBWR": "AVX2",
    "MKL_VML_DEBUG_CPU_TYPE": "0",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
    "OPENBLAS_CORETYPE": "Nehalem",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2",
}


@pytest.fixture(scope="module")
def config(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("portable") / "mine.yaml"
    values = experiment(
        toy["features"],
        optimizer="adam",
        kernels="portable",
        update_transforms=[{"name": "clip", "max_norm": 0.1}],
    )
    return write_config(path, values)


def test_the_same_under_other_levels_and_ranks(config, tmp_path):
    first = train(None, config, "--run-dir", tmp_path / "a")
    assert first.returncode == 0, first.stderr
    second = train(3, config, "--run-dir", tmp_path / "b", env=OTHER_LEVELS)
    assert second.returncode == 0, second.stderr
    assert digest_of(tmp_path / "a") == digest_of(tmp_path / "b")
    for run in "ab":
        found = json.loads((tmp_path / run / "provenance.json").read_text())["kernels"]
        assert found["switches"] == kernels.SWITCHES
        assert found["torch_capability"] == "AVX2"


def test_a_run_keeps_its_kernels(config, tmp_path):
    run = tmp_path / "run"
    assert train(None, config, "--run-dir", run, "rounds=2").returncode == 0
    other = train(None, "--resume", run, "kernels=native")
    assert other.returncode == 2
    assert "kernels: portable -> native" in other.stderr
    again = train(None, "--resume", run, "rounds=3")
    assert again.returncode == 0, again.stderr
    whole = train(None, config, "--run-dir", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert digest_of(run) == digest_of(tmp_path / "whole")


def test_every_rank_refuses_it_together(config, tmp_path):
    ended = train(2, config, "--run-dir", tmp_path / "run", "threads=2")
    assert ended.returncode == 2
    assert ended.stderr.count("needs threads: 1") == 1


def test_data_are_prepared_with_them(tmp_path):
    rng = np.random.default_rng(3)
    raw = tmp_path / "raw.npz"
    np.savez(raw, x_v=rng.normal(size=(300, 5)), y=rng.integers(0, 4, 300))
    found = []
    for name, env in (("a", {}), ("b", OTHER_LEVELS)):
        words = fedapm(
            "prepare", "arrays", "--from", raw, "--to", tmp_path / name,
            "--kernels", "portable", "clients=5", "partitioner=dirichlet-client",
            "partitioner.sigma=0.7", "shift=standardise",
        )  # fmt: skip
        ended = mpiexec.run(None, words, timeout=120.0, env=user_path(**env))
        assert ended.returncode == 0, ended.stderr
        found.append(read_manifest(tmp_path / name).sha256)
    assert found[0] == found[1]


def test_a_program_chooses_them_first_of_all(config, tmp_path):
    code = (
        "import sys, fedapm_mpi\n"
        "if sys.argv[1] == 'first': fedapm_mpi.use_portable_kernels()\n"
        "import torch\n"
        "print(fedapm_mpi.train(sys.argv[2], run_dir=sys.argv[3]).digest)\n"
    )

    def run(when):
        words = ["-c", code, when, str(config), str(tmp_path / when)]
        return mpiexec.run(None, words, timeout=120.0, env=user_path())

    first, late = run("first"), run("late")
    assert first.returncode == 0, first.stderr
    assert first.stdout.split()[-1] == digest_of(tmp_path / "first")
    assert late.returncode != 0
    assert "ahead of its other imports" in late.stderr
    other = train(None, config, "--run-dir", tmp_path / "train")
    assert other.returncode == 0, other.stderr
    assert digest_of(tmp_path / "train") == digest_of(tmp_path / "first")
