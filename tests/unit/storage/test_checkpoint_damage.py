"""Damaged and hostile checkpoints: never another digest; the one before is used."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors import SafetensorError

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.engine import tensor_files
from fedapm_mpi.errors import FedAPMError, WriteError
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage.checkpoint_metadata import read_description
from fedapm_mpi.training.runner import train
from tests.support.data.saved_checkpoints import edit, flips, save
from tests.support.processes.cli_runs import digest_of, experiment, rounds_of


def test_every_flipped_byte_of_the_tensors_is_noticed(tmp_path):
    directory = save(tmp_path, 4)
    saved = read_description(directory)
    for path in directory.glob("*.safetensors"):
        sound = path.read_bytes()
        for k, raw in enumerate(flips(sound)):
            if k % 7 == 0:
                path.write_bytes(raw)
                assert "checksum" in checkpoint.find_corruption(saved, [path.name])
        path.write_bytes(sound)
        assert checkpoint.find_corruption(saved, [path.name]) is None


def test_a_client_in_no_list_of_format_1_is_found_by_who_took_part(tmp_path):
    """Its file and its entry are gone; the server's array still knows it."""
    save(tmp_path, 3)
    directory = save(tmp_path, 4)

    def drop(note):
        note["files"] = [f for f in note["files"] if f["name"] == "server.safetensors"]

    edit(drop, kind=1)(directory / "checkpoint.json")
    (directory / "clients-00000-00000.safetensors").unlink()
    notes: list[str] = []
    assert checkpoint.load_newest(Serial(), tmp_path, notes).round_index == 3
    assert "the clients that took part are not those listed" in notes[0]


def test_a_linked_checkpoint_is_set_aside_and_its_target_kept(tmp_path):
    elsewhere = save(tmp_path / "elsewhere", 9)
    save(tmp_path / "run", 3)
    (tmp_path / "run" / "round-000009").symlink_to(elsewhere)
    notes: list[str] = []
    assert checkpoint.load_newest(Serial(), tmp_path / "run", notes).round_index == 3
    assert "it is not a directory" in notes[0]
    (tmp_path / "run" / "round-000001").symlink_to(elsewhere)
    (tmp_path / "run" / ".round-000005").symlink_to(elsewhere)
    save(tmp_path / "run", 5, keep=1)
    assert read_description(elsewhere).round_index == 9


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Return the configuration of six rounds, and an unbroken run of it."""
    root = tmp_path_factory.mktemp("damage")
    config = experiment(toy["features"], rounds=4, checkpoint={"every": 1, "keep": 3})
    train(Serial(), validate(config, "t"), directory=root / "four", progress="none")
    config |= {"rounds": 6}
    train(Serial(), validate(config, "t"), directory=root / "six", progress="none")
    return validate(config, "t"), root


def flip_bit(file, find, bit):
    def harm(directory):
        path = directory / file
        raw = bytearray(path.read_bytes())
        raw[raw.index(find) + len(find)] ^= bit
        path.write_bytes(raw)

    return harm


def drop_client(directory):
    path = directory / "checkpoint.json"
    note = json.loads(path.read_text())
    note["files"][0]["clients"].pop(0)
    path.write_text(json.dumps(note, indent=1))


HARM = {
    "round-4-to-5": flip_bit("checkpoint.json", b'"round": ', 1),
    "format-2-to-3": flip_bit("checkpoint.json", b'"format": ', 1),
    "checksum-key": flip_bit("checkpoint.json", b'\n"checksu', 1),
    "identity": flip_bit("checkpoint.json", b'"rho": 0.', 1),
    "client-dropped": drop_client,
    "server": flip_bit("server.safetensors", b"}", 1),
    "clients": flip_bit("clients-00000-00000.safetensors", b"}", 64),
}


@pytest.mark.parametrize("name", HARM)
def test_a_run_continues_from_the_checkpoint_before(runs, tmp_path, capsys, name):
    config, root = runs
    shutil.copytree(root / "four", tmp_path / "run")
    HARM[name](tmp_path / "run" / "checkpoints" / "round-000004")
    resumed = {"directory": tmp_path / "run", "resume": True, "progress": "lines"}
    assert train(Serial(), config, **resumed) == 0
    printed = capsys.readouterr().out
    assert "note: damaged checkpoint round-000004 set aside" in printed
    assert "continuing after round 3" in printed
    assert digest_of(tmp_path / "run") == digest_of(root / "six")
    assert rounds_of(tmp_path / "run") == rounds_of(root / "six")


def test_a_run_that_converged_stays_so_without_its_records(runs, tmp_path):
    config, _ = runs
    loose = {"tolerance": {"absolute": 1e3, "relative": 1e3}, "rounds": 6}
    values = config.plain() | loose | {"participation": {"name": "full"}}
    config = validate(values, "t")
    run = {"directory": tmp_path / "run", "progress": "none"}
    assert train(Serial(), config, **run) == 0
    digest = digest_of(tmp_path / "run")
    (tmp_path / "run" / "rounds.jsonl").write_text("")
    assert train(Serial(), config, **run, resume=True) == 0
    assert digest_of(tmp_path / "run") == digest
    summary = yaml.safe_load((tmp_path / "run" / "summary.json").read_text())
    assert summary["rounds"] < 6
    assert summary["num_missing_rounds"] == summary["rounds"] + 1


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (save(tmp_path, 4) / "checkpoint.json").write_text("")

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.rename", refuse)
    with pytest.raises(FedAPMError, match=r"cannot write .*check the permissions"):
        checkpoint.load_newest(Serial(), tmp_path, [])


def test_a_disk_that_is_full_of_tensors_is_reported_with_its_remedy(
    tmp_path, monkeypatch
):
    def fail(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensor_files, "save_file", fail)
    with pytest.raises(WriteError, match="No space left on device; free some space"):
        tensor_files.write_tensors(tmp_path / "a", {"x": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []
