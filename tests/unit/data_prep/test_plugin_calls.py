"""Own sources, partitioners, shifts, extractors and launchers that fail."""

import re
from pathlib import Path

import numpy as np
import pytest

from fedapm_mpi.cli import main as cli
from fedapm_mpi.cluster import launch as launching
from fedapm_mpi.cluster.launchers import Job
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins.errors import PluginError
from tests.support.own_files import here, write  # noqa: F401

PARTS = """\
import numpy as np
from data_prep.extractors import BrokenItem, Items
from data_prep.sources import Source
from fedapm_mpi.errors import DataError
from fedapm_mpi.data.table import Table, column


def source(path, *, classes: int = 2):
    x = np.arange(24, dtype=np.float32).reshape(12, 2)
    table = Table("mine", [column("x", x)], np.arange(12) % 2, ["a", "b"])
    return Source(table, (path,), ids=np.repeat([0, 1], 6), id_names=("p", "q"))


def raises(path):
    raise KeyError("in my source")


def leaves(path):
    raise SystemExit(0)


def refuses(path):
    raise DataError("my data are damaged")


def nothing(path):
    return None


def deep(path):
    return source(path).nonsense


def halves(pool, clients, rng):
    return [np.arange(6), np.arange(6, 12)]


def p_raises(pool, clients, rng):
    raise ValueError("in my partitioner")


def p_none(pool, clients, rng):
    return None


def p_floats(pool, clients, rng):
    return [np.zeros(3)]


def p_twice(pool, clients, rng):
    return [np.arange(12), np.arange(12)]


def same(table, clients):
    return table, [""] * clients.number


def s_raises(table, clients):
    raise ValueError("in my shift")


def s_none(table, clients):
    return None


def s_notes(table, clients):
    return table, ["one"]


class Extractor:
    dataset, inputs = "mine", {"x": (None, 2)}

    def items(self):
        return Items(("i", "j"), (0, 1), ("a", "b"), (1, 2))

    def facts(self):
        return {}

    def extract(self, payload):
        raise ValueError("in my extractor")


def extractor(path, *, skip_broken: bool = False):
    return Extractor()


def e_none(path, *, skip_broken: bool = False):
    return None


def e_raises(path, *, skip_broken: bool = False):
    raise ValueError("as it is made")
"""


def prepare(here, capsys, *words, source="./mine.py:source"):  # noqa: F811
    write("mine.py", PARTS)
    write("raw", "x")
    code = cli.main(["prepare", source, "--from", "raw", "--to", "made", *words])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "code", "wanted"),
    [
        ("raises", 70, r"source './mine.py:raises' failed: KeyError: 'in my source' \("
         r"mine.py, line \d+\)"),
        ("leaves", 70, r"failed: SystemExit: 0 \(mine.py"),
        ("refuses", 3, "error: my data are damaged"),
        ("nothing", 70, "returned NoneType; it must return a data_prep.sources.Source"),
        ("deep", 70, r"AttributeError: .*nonsense.* \(mine.py, line"),
        ("absent", 2, "mine.py has no 'absent'"),
    ],
)  # fmt: skip
def test_sources(here, capsys, name, code, wanted):  # noqa: F811
    found, printed = prepare(here, capsys, source=f"./mine.py:{name}")
    assert found == code, printed
    assert re.search(wanted, printed), printed
    assert "Traceback" not in printed
    assert printed.count("\n") == 1
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        (
            "partitioner=./mine.py:p_raises",
            70,
            "'./mine.py:p_raises' failed: ValueError",
        ),
        ("partitioner=./mine.py:p_none", 70, "must return a list of integer arrays"),
        ("partitioner=./mine.py:p_floats", 70, "must return a list of integer arrays"),
        ("partitioner=./mine.py:p_twice", 3, "partitioner './mine.py:p_twice' gave "),
        (
            "shift=./mine.py:s_raises",
            70,
            "shift './mine.py:s_raises' failed: ValueError",
        ),
        ("shift=./mine.py:s_none", 70, "must return a data_prep.shifts.Shifted"),
        ("shift=./mine.py:s_notes", 70, "must return a data_prep.shifts.Shifted"),
        ("shift=mine.py:none", 2, "mine.py has no 'none'"),
        ("partitioner=mine:halvse", 2, "has no 'halvse'; did you mean 'halves'?"),
    ],
)
def test_partitioners_and_shifts(here, capsys, words, code, wanted):  # noqa: F811
    found, printed = prepare(here, capsys, words)
    assert found == code, printed
    assert wanted in printed
    assert "Traceback" not in printed
    assert not Path("made").exists()


def test_parts_that_do_what_they_must(here, capsys):  # noqa: F811
    words = ["partitioner=./mine.py:halves", "shift=./mine.py:same", "test=0"]
    assert prepare(here, capsys, *words)[0] == 0
    manifest = read_manifest("made")
    np.testing.assert_array_equal(manifest.counts["train"], [6, 6])
    made = manifest.preparation
    assert made["partitioner"]["name"] == "mine.py:halves"
    assert made["shift"][0]["name"] == "mine.py:same"
    assert list(made["own_parts"]) == ["mine.py"]
    # The very same data set; but not by other code.
    assert prepare(here, capsys, *words)[0] == 0
    import sys

    for name in [n for n in sys.modules if n.startswith("fedapm_own_mine")]:
        del sys.modules[name]
    write("mine.py", PARTS + "# another\n")
    words = ["prepare", "./mine.py:source", "--from", "raw", "--to", "made", *words]
    assert cli.main(words) == 3
    assert "they differ in: own_parts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "code", "wanted"),
    [
        ("extractor", 70, "failed: ValueError: in my extractor (mine.py, line"),
        ("e_raises", 2, "could not be built: ValueError: as it is made (mine.py, line"),
        ("e_none", 2, "'./mine.py:e_none' has no dataset; it has no inputs"),
    ],
)
def test_extractors(here, capsys, name, code, wanted):  # noqa: F811
    write("mine.py", PARTS)
    words = ["extract", f"./mine.py:{name}", "--from", ".", "--to", "made"]
    assert cli.main(words) == code
    printed = capsys.readouterr().err
    assert wanted in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("body", "kind", "wanted"),
    [
        ("return ['mpirun', '-n', str(job.ranks)]", None, None),
        ("return None", ConfigError, "gave None; it must return a list of strings"),
        ("return []", ConfigError, "gave []; it must return"),
        ("return 'mpirun'", ConfigError, "gave 'mpirun'; it must return"),
        ("1 / 0", PluginError, "launcher './starter.py:go' failed: ZeroDivisionError"),
    ],
)
def test_launchers(here, monkeypatch, body, kind, wanted):  # noqa: F811
    write("starter.py", f"def go(program, job, library):\n    {body}\n")
    monkeypatch.setattr(launching, "library", lambda python: "MPICH")
    job = Job(ranks=2)
    if kind is None:
        words = launching.command(job, ["train"], launcher="./starter.py:go")
        assert words[:3] == ["mpirun", "-n", "2"]
        return
    with pytest.raises(kind, match=re.escape(wanted)):
        launching.command(job, ["train"], launcher="./starter.py:go")
