"""Damaged and hostile run directories: a sentence and an exit code, no more."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.analysis.run import Run, read_config
from fedapm_mpi.cli import main as cli
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.diff import config_diff
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError, WriteError
from fedapm_mpi.tracking.run_directory import RUN_FILES
from fedapm_mpi.training.runner import train
from fedapm_mpi.utils.atomic_io import atomic_write, remove, write_error, write_text
from tests.support.damage import flip
from tests.support.processes.cli_runs import digest_of


def test_a_run_is_read_as_a_whole(trained, run):
    found = Run.load(str(run))
    assert found.label == "run"
    assert found.config.algorithm == trained[0].algorithm
    assert [record["round"] for record in found.records] == [0, 1, 2]
    assert found.curve("train_loss")[0] == [1, 2]
    assert (found.last_round, found.notes) == (2, [])
    assert found.summary == json.loads((run / "summary.json").read_text())
    assert [row["client"] for row in found.clients] == list(range(8))
    assert found.provenance["manifest"]["dataset"]
    assert found.digest == digest_of(run)
    theirs = load_client_model(run, 3).state_dict()
    for name, tensor in found.client_model(3).state_dict().items():
        assert tensor.equal(theirs[name])


def test_a_killed_run_is_read_without_its_torn_line(run):
    path = run / "rounds.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    (run / "summary.json").unlink()
    found = Run.load(run)
    assert [record["round"] for record in found.records] == [0, 1]
    assert (found.last_round, found.notes) == (1, [])


def test_records_are_read_without_torch():
    code = "import sys, fedapm_mpi.analysis.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_no_run(tmp_path):
    with pytest.raises(DataError, match=r"No such file or directory.*not a run direct"):
        Run.load(tmp_path)
    assert Run(tmp_path).records == []  # a run that is not started yet
    assert Run(tmp_path).last_round == -1
    with pytest.raises(DataError, match=r"provenance\.json"):
        _ = Run(tmp_path).provenance


def test_a_model_is_not_loaded_from_a_damaged_state(run):
    load_client_model(run, 3)
    flip(run / "final" / "clients-00000-00000.safetensors")
    with pytest.raises(DataError, match="does not have the checksum that"):
        load_client_model(run, 3)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe", b"", b"[]", b"3", b"- a", b"{", b"[" * 700, b"rounds: !!int x",
        b"rounds: " + b"9" * 5000, b"algorithm: 3", b"model: mlp", b"split: 4",
        b"a: b\n" * 2, b"data: !!python/object/apply:os.system [true]", b"? [1]\n: 2",
    ],
)  # fmt: skip
def test_a_damaged_configuration_is_a_sentence(run, capsys, raw):
    (run / "config.yaml").write_bytes(raw)
    with pytest.raises(DataError, match="is not a run directory") as caught:
        read_config(run)
    assert len(str(caught.value)) < 600
    for words in (["digest", str(run), "--verify"], ["report", str(run)]):
        assert cli.main(words) == 3
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        ("rounds: 2", "rounds: two"), ("name: mlp", "name: 7"), ("seed: 1", "seed: []"),
        ("precision: full", "precision: 1"), ("  split: test", "  split: tset"),
        ("  split: test", "  split: [test]"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_a_sentence(run, change):
    path = run / "config.yaml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(DataError, match="is not a run directory"):
        read_config(run)


LINKED = (
    "config.yaml", "provenance.json", "rounds.jsonl", "clients.csv", "summary.json",
    "split.csv", "built_model.json", "checkpoints", "final",
)  # fmt: skip


SELDOM = ("split_choice.json", "failure.json")
"""Of a run that chose its split, and of one that failed."""


def test_all_that_a_run_writes_is_known(run):
    assert {path.name for path in run.iterdir()} == set(LINKED)
    assert {*LINKED, *SELDOM} == set(RUN_FILES)


@pytest.mark.parametrize("name", [*LINKED, *SELDOM])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_run_does_not_write_through_a_link(trained, run, tmp_path, name, dangling):
    target = tmp_path / "elsewhere"
    if name in SELDOM:
        (run / name).write_text("{}")
    if dangling:
        remove(run / name)
    else:
        (run / name).rename(target)
    (run / name).symlink_to(target)
    before = sorted((p, p.stat().st_mtime_ns) for p in target.rglob("*"))
    with pytest.raises(ConfigError, match=f"{name} is a symbolic link"):
        train(Serial(), trained[0], directory=run, resume=True, progress="none")
    assert sorted((p, p.stat().st_mtime_ns) for p in target.rglob("*")) == before
    assert target.exists() is not dangling
    assert not (run / "fedapm.lock").exists()


def test_stale_parts_that_are_links_are_replaced(trained, run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    files = ("config.yaml", "summary.json", "rounds.jsonl", "final/digest.txt")
    for file in files:
        (run / file).with_name(f".{Path(file).name}.part").symlink_to(precious)
    (run / "checkpoints" / ".round-000003").symlink_to(tmp_path)
    values = trained[0].plain() | {"rounds": 3}
    config = validate(values, "t")
    assert train(Serial(), config, directory=run, resume=True, progress="none") == 0
    assert precious.read_text() == "mine"
    assert not list(run.rglob(".*"))


def test_the_run_directory_itself_may_be_a_link(trained, tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    run = {"directory": tmp_path / "run", "progress": "none"}
    assert train(Serial(), trained[0], **run) == 0
    assert digest_of(tmp_path / "scratch") == digest_of(trained[1])
    assert train(Serial(), trained[0], **run, resume=True) == 0


def test_a_report_is_not_written_through_a_link(run, tmp_path):
    (run / "report").symlink_to(tmp_path)
    assert cli.main(["report", str(run)]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space or choose another folder"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "check the permissions"),
        (errno.EPERM, "check the permissions"),
        (errno.EROFS, "check the permissions"),
        (errno.ENOENT, "moved or deleted meanwhile"),
        (errno.EIO, "check the file system"),
        (errno.EISDIR, "move away what has this name"),
        (0, "check the file system"),
    ],
)
def test_advice_follows_the_error(tmp_path, number, advice):
    error = OSError(number, os.strerror(number))
    reported = str(write_error(tmp_path / "a", error))
    assert advice in reported
    assert os.strerror(number) in reported

    def fail(part):
        part.write_text("half")
        raise error

    with pytest.raises(WriteError, match=advice):
        atomic_write(tmp_path / "a", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_no_part_is_left_by_another_exception(tmp_path, stop):
    def fail(part):
        raise stop

    with pytest.raises(stop):
        atomic_write(tmp_path / "a", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_by_the_name_of_a_file_is_a_sentence(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / ".b.part").mkdir()
    for name in "ab":
        with pytest.raises(WriteError, match="cannot write"):
            write_text(tmp_path / name, "text")


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        ("os.fsync", errno.EIO),
        ("os.fsync", errno.ENOSPC),
        ("pathlib.Path.replace", errno.EROFS),
        ("pathlib.Path.rename", errno.EIO),
        ("pathlib.Path.mkdir", errno.EACCES),
        ("shutil.rmtree", errno.EIO),
        ("fedapm_mpi.storage.checkpoint.file_sha256", errno.EIO),
        ("fedapm_mpi.tracking.run_directory.fsync_path", errno.EIO),
    ],
)
def test_a_failing_operation_is_one_sentence(
    trained, run, monkeypatch, operation, number
):
    """Whatever fails first; removing old checkpoints waits for the next time."""

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    config = validate(trained[0].plain() | {"rounds": 4}, "t")
    again = {"directory": run, "resume": True, "progress": "none"}
    with monkeypatch.context() as patch:
        patch.setattr(operation, fail)
        with pytest.raises(FedAPMError, match=os.strerror(number)):
            train(Serial(), config, **again)
    assert train(Serial(), config, **again) == 0
    assert not [p for p in run.rglob(".*") if p.name.startswith((".old", ".round"))]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "round-000003", "round-000004",
    ]  # fmt: skip


def test_only_what_differs_is_shown():
    then = {"a": {"name": "x", "rho": 0.1, "work": {"epochs": 1}}, "seed": 1}
    now = {"a": {"name": "x", "rho": 0.2, "work": {"epochs": 1}}, "seed": 1}
    assert config_diff(then, then) == []
    assert config_diff(then, now) == ["a.rho: 0.1 -> 0.2"]
    assert config_diff({"s": "a" * 64}, {"s": "b" * 64}) == [
        f"s: {'a' * 12} -> {'b' * 12}"
    ]
    now["a"] = {"name": "y", "steps": 3}
    assert config_diff(then, now) == ["a.name: x -> y"]
    assert config_diff({"p": None}, {"p": {"x": 1}}) == ["p: None -> {'x': 1}"]
    assert config_diff({"p": 1}, {"q": 2}) == ["p: 1 -> (none)", "q: (none) -> 2"]
    assert config_diff({"n": [8]}, {"n": [9, 10]}) == ["n: [8] -> [9, 10]"]
    assert config_diff({"n": "1"}, {"n": 1}) == ["n: '1' -> 1"]
    (line,) = config_diff({"n": "x" * 10**5 + "a"}, {"n": "x" * 10**5 + "b"})
    assert len(line) < 200
    assert line.isascii()
    assert "xa..." in line
    assert "xb..." in line
