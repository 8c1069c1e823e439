"""``fedapm prepare`` under mpiexec: the same files from any number of ranks."""

import numpy as np
import pytest

from fedapm_mpi.data.manifest import read_manifest
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import fedapm, train_many

pytestmark = pytest.mark.slow

RANKS = 3
OPTIONS = ("partitioner=dirichlet", "clients=10", "shift=noise", "compression=gzip")
SHARDS = (2, 7)
STORED = {2: (), 7: ("store=int8",)}
REFUSED = {
    "misspelt": (("partition=iid",), 2, "did you mean"),
    "no-clients": ((), 2, "names no clients"),
    "no-source": (OPTIONS, 3, "no"),
    "many-shards": ((*OPTIONS, "shards=11"), 3, "11 shards"),
    "there": ((*OPTIONS, "seed=9"), 3, "seed"),
    "in-a-file": (OPTIONS, 3, "cannot write"),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("raw") / "raw.npz"
    x = rng.normal(size=(400, 30)).astype(np.float32)
    np.savez(path, x_a=x, y=np.arange(400) % 4)
    return path


def prepare(raw, to, *options):
    return ["prepare", "arrays", "--from", raw, "--to", to, *options]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def done(raw, tmp_path_factory):
    """Prepare on one rank and, in one job, on three; return what came of each."""
    root = tmp_path_factory.mktemp("prepared")
    wanted = {k: (*OPTIONS, *STORED[k], f"shards={k}") for k in SHARDS}
    alone = {f"one-{k}": prepare(raw, root / f"one-{k}", *wanted[k]) for k in SHARDS}
    rows = [f"{k % 9},{k % 7},{k * 37 % 100 / 8}" for k in range(300)]
    table = raw.parent / "table.csv"
    table.write_text("\n".join(["shop,rooms,score", *rows]) + "\n")
    own = ["--from", table, "client=shop", "target=score", "shards=4", "--to"]
    alone["table-one"] = ["prepare", "table", *own, root / "table-one"]
    alone["there"] = prepare(raw, root / "there", *OPTIONS)
    found = train_many(1, alone, root / "output-one")
    assert all(one.codes == [0] for one in found.values()), found
    before = contents(root / "there")
    commands = {}
    for shards, options in wanted.items():
        for name in ("many", "again"):
            to = root / f"many-{shards}"
            commands[f"{name}-{shards}"] = prepare(raw, to, *options)
    commands["table-many"] = ["prepare", "table", *own, root / "table-many"]
    for name, (options, _, _) in REFUSED.items():
        source = raw.parent / "no" if name == "no-source" else raw
        to = raw / "in-a-file" if name == "in-a-file" else root / name
        commands[name] = prepare(source, to, *options)
    found |= train_many(RANKS, commands, root / "output")
    return root, found, before


def test_a_table_on_any_number_of_ranks(done):
    root, found, _ = done
    assert found["table-many"].codes == [0] * RANKS
    assert contents(root / "table-many") == contents(root / "table-one")
    manifest = read_manifest(root / "table-one")
    assert manifest.target.names == ("score",)
    assert len(manifest.files) == 4


@pytest.mark.parametrize("shards", SHARDS)
def test_any_number_of_ranks(done, shards):
    """More ranks than files, and fewer."""
    root, found, _ = done
    many, again = found[f"many-{shards}"], found[f"again-{shards}"]
    assert many.codes == [0] * RANKS, many
    assert contents(root / f"many-{shards}") == contents(root / f"one-{shards}")
    assert len(read_manifest(root / f"many-{shards}").files) == shards
    alone = found[f"one-{shards}"].stdout[0].replace(f"one-{shards}", f"many-{shards}")
    assert many.stdout == [alone, "", ""], "only rank 0 talks"
    assert again.codes == [0] * RANKS
    assert "is this very data set: nothing to do" in again.stdout[0]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_once(done, name):
    root, found, before = done
    _, code, words = REFUSED[name]
    one = found[name]
    assert one.codes == [code] * RANKS, one
    assert "".join(one.stderr).count("fedapm: error:") == 1
    assert words in one.stderr[0]
    assert contents(root / "there") == before
    assert name == "there" or not (root / name).exists()


def test_a_job_of_its_own(raw, done, tmp_path):
    """The others share their processes; this one is started by the command line."""
    argv = fedapm(*prepare(raw, tmp_path / "own", *OPTIONS, "shards=2"))
    ended = mpiexec.run(RANKS, argv, timeout=120)
    assert ended.returncode == 0, ended
    assert contents(tmp_path / "own") == contents(done[0] / "one-2")


def test_help_and_lists(tmp_path):
    for words in (["prepare", "--help"], ["prepare", "--list"]):
        ended = mpiexec.run(2, fedapm(*words), timeout=120)
        assert ended.returncode == 0, ended
        assert ended.stdout.count("shift") >= 1
        assert ended.stderr == ""
