"""``fedapm prepare`` under mpiexec: the same files from any number of ranks."""

import numpy as np
import pytest

from fedapm_mpi.data.manifest import read_manifest
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import fedapm

pytestmark = pytest.mark.slow

RANKS = 3


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("raw") / "raw.npz"
    x = rng.normal(size=(400, 30)).astype(np.float32)
    np.savez(path, x_a=x, y=np.arange(400) % 4)
    return path


def prepare(ranks, raw, to, *options):
    argv = fedapm("prepare", "arrays", "--from", raw, "--to", to, *options)
    return mpiexec.run(ranks, argv, timeout=120)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


OPTIONS = ("partitioner=dirichlet", "clients=10", "shift=noise", "compression=gzip")


@pytest.mark.parametrize("shards", [2, 7])
def test_any_number_of_ranks(raw, tmp_path, shards):
    """More ranks than files, and fewer."""
    options = (*OPTIONS, f"shards={shards}")
    ended = prepare(RANKS, raw, tmp_path / "many", *options)
    assert ended.returncode == 0, ended
    alone = prepare(None, raw, tmp_path / "one", *options)
    assert alone.returncode == 0, alone
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert len(read_manifest(tmp_path / "many").files) == shards
    assert ended.stdout == alone.stdout, "only rank 0 talks"
    again = prepare(RANKS, raw, tmp_path / "many", *options)
    assert again.returncode == 0
    assert "is this very data set: nothing to do" in again.stdout


def test_what_is_refused_is_refused_once(raw, tmp_path):
    prepare(None, raw, tmp_path / "there", *OPTIONS)
    before = contents(tmp_path / "there")
    for ended, code, words in (
        (prepare(RANKS, raw, tmp_path / "a", "partition=iid"), 2, "did you mean"),
        (prepare(RANKS, raw, tmp_path / "b"), 2, "names no clients"),
        (prepare(RANKS, raw.parent / "no", tmp_path / "c", *OPTIONS), 3, "no"),
        (prepare(RANKS, raw, tmp_path / "d", *OPTIONS, "shards=11"), 3, "11 shards"),
        (prepare(RANKS, raw, tmp_path / "there", *OPTIONS, "seed=9"), 3, "seed"),
        (prepare(RANKS, raw, raw / "in-a-file", *OPTIONS), 3, "cannot write"),
    ):
        assert ended.returncode == code, ended
        assert ended.stderr.count("fedapm: error:") == 1
        assert words in ended.stderr
    assert contents(tmp_path / "there") == before
    assert not any((tmp_path / name).exists() for name in "abcd")


def test_help_and_lists(tmp_path):
    for words in (["prepare", "--help"], ["prepare", "--list"]):
        ended = mpiexec.run(2, fedapm(*words), timeout=120)
        assert ended.returncode == 0, ended
        assert ended.stdout.count("shift") >= 1
        assert ended.stderr == ""
