"""Damaged and hostile checkpoints: never another digest; the one before is used."""

import contextlib
import io
import json
import os
import shutil
from hashlib import sha256

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.engine import tensor_files
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage import checkpoint_metadata as descriptions
from fedapm_mpi.storage.checkpoint_folder import present
from fedapm_mpi.storage.checkpoint_metadata import read_description, write_description
from fedapm_mpi.training.runner import train
from fedapm_mpi.utils.atomic_io import WriteError
from fedapm_mpi.utils.strict_json import decode, encode
from tests.support.processes.cli_runs import digest_of, experiment, rounds_of


def save(root, t, keep=9, states=None):
    checkpoint.save(
        Serial(),
        root,
        t,
        identity={"seed": 1, "algorithm": {"name": "a", "rho": 0.1}},
        server={
            "rows": torch.full((1, 3), float(t), dtype=torch.float64),
            "seen": torch.tensor([False, True, False, True]),
        },
        states=states or {1: {"u": torch.ones(3)}, 3: {"u": torch.zeros(3)}},
        keep=keep,
    )
    return root / f"round-{t:06}"


def flips(raw):
    for k in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[k // 8] ^= 1 << k % 8
        yield bytes(changed)


def test_every_flipped_bit_of_a_description_is_noticed(tmp_path, monkeypatch):
    path = save(tmp_path, 4) / "checkpoint.json"
    sound = path.read_bytes()
    assert read_description(path.parent).round_index == 4
    unnoticed = []
    for number, raw in enumerate(flips(sound)):
        # From memory: thousands of writes would take most of the time.
        opened = io.BytesIO(raw)
        monkeypatch.setattr(descriptions, "open_regular", lambda _, file=opened: file)
        with contextlib.suppress(ValueError):
            unnoticed.append((number, read_description(path.parent)))
    assert unnoticed == []
    assert number + 1 == 8 * len(sound) > 3000


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


def edit(change, kind=2):
    """Return a harm: change what a description says, and give it a right checksum."""

    def harm(path):
        note = json.loads(path.read_text())
        del note["checksum"], note["format"]
        change(note)
        if kind == 2:
            write_description(path.parent, note)
        else:
            note.pop("converged", None)
            path.write_text(json.dumps({"format": 1, **note}, indent=1) + "\n")

    return harm


def text(new):
    return lambda path: path.write_bytes(
        new if isinstance(new, bytes) else new.encode()
    )


def instead(make):
    def harm(path):
        path.unlink()
        make(path)

    return harm


def put(key, value):
    return edit(lambda note: note.update({key: value}))


def put_file(key, value):
    return edit(lambda note: note["files"][0].update({key: value}))


UNUSABLE = {
    "empty": text(""),
    "list": text("[]"),
    "number": text("3"),
    "deep": text("[" * 100_000),
    "deep-object": text('{"a":' * 3000 + "1" + "}" * 3000),
    "huge-integer": text('{"round": ' + "9" * 5000 + "}"),
    "not-utf-8": text(b"\xff\xfe{}"),
    "key-twice": text('{"format": 1, "format": 1}'),
    "nan": text("NaN"),
    "a-directory": instead(lambda path: path.mkdir()),
    "a-pipe": instead(lambda path: os.mkfifo(path)),
    "a-link": instead(lambda path: path.symlink_to("/etc/hostname")),
    "gone": lambda path: path.unlink(),
    "other-round": put("round", 5),
    "round-true": put("round", True),
    "round-float": put("round", 4.0),
    "round-text": put("round", "4"),
    "identity-list": put("identity", [1]),
    "files-object": put("files", {}),
    "no-files": put("files", []),
    "files-of-text": put("files", ["server.safetensors"]),
    "extra-key": put("more", 1),
    "converged-text": put("converged", "no"),
    "name-above": put_file("name", "../../x.safetensors"),
    "name-absolute": put_file("name", "/etc/passwd"),
    "name-nul": put_file("name", "clients-00000-00000.safetensors\0"),
    "name-of-server": put_file("name", "server.safetensors"),
    "bytes-negative": put_file("bytes", -1),
    "bytes-true": put_file("bytes", True),
    "sha256-short": put_file("sha256", "ab"),
    "clients-text": put_file("clients", "13"),
    "clients-negative": put_file("clients", [-1, 1, 3]),
    "clients-twice": put_file("clients", [1, 1, 3]),
    "clients-float": put_file("clients", [1.0, 3]),
    "client-dropped": put_file("clients", [1]),
    "old-client-dropped": edit(lambda n: n["files"][0].update(clients=[1]), kind=1),
    "old-file-dropped": edit(lambda n: n["files"].pop(0), kind=1),
    "old-round": edit(lambda n: n.update(round=5), kind=1),
    "old-with-checksum": edit(lambda n: n.update(sha256="a" * 64), kind=1),
    "old-as-new": lambda path: path.write_text(
        path.read_text().replace('"format": 2', '"format": 1')
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_description_gives_way_to_the_one_before(tmp_path, name):
    save(tmp_path, 3)
    UNUSABLE[name](save(tmp_path, 4) / "checkpoint.json")
    notes: list[str] = []
    assert checkpoint.load_newest(Serial(), tmp_path, notes).round_index == 3
    (note,) = notes
    assert note.startswith("damaged checkpoint round-000004 set aside as damaged-round")
    assert len(note) < 600
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "damaged-round-000004", "round-000003",
    ]  # fmt: skip


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


def test_a_sound_one_of_an_older_version_is_used_with_a_note(tmp_path):
    edit(lambda note: None, kind=1)(save(tmp_path, 4) / "checkpoint.json")
    notes: list[str] = []
    saved = checkpoint.load_newest(Serial(), tmp_path, notes)
    assert (saved.round_index, saved.format, saved.converged) == (4, 1, None)
    assert "round-000004 is of an older version" in notes[0]


def test_one_of_a_later_version_is_left_alone(tmp_path):
    path = save(tmp_path, 4) / "checkpoint.json"
    note, _ = decode(path.read_bytes())
    path.write_bytes(encode(note | {"format": 3, "new": 1}))
    with pytest.raises(ConfigError, match="later version"):
        checkpoint.load_newest(Serial(), tmp_path, [])
    assert path.exists()


def test_checkpoints_are_ordered_by_number(tmp_path):
    for t in (999_998, 999_999, 1_000_000, 1_000_001, 10_000_000):
        save(tmp_path, t, keep=2)
        assert checkpoint.load_newest(Serial(), tmp_path, []).round_index == t
    assert [p.name for p in present(tmp_path)] == ["round-1000001", "round-10000000"]


def test_names_that_no_run_writes_do_not_count_and_are_kept(tmp_path):
    mine = [
        "round-best", "round-1", "round-000001.bak", "round-0000009", ".round-best",
        ".old-round-best", "round-99999999999999999999999", "damaged-round-x",
        "round-００００７７",
    ]  # fmt: skip
    for name in mine:
        shutil.copytree(save(tmp_path / "other", 7), tmp_path / name)
    shutil.rmtree(tmp_path / "other")
    for name in (".round-000002", ".old-round-000001"):  # these are ours
        (tmp_path / name).mkdir()
    for t in (3, 4, 5):
        save(tmp_path, t, keep=2)
    notes: list[str] = []
    assert checkpoint.load_newest(Serial(), tmp_path, notes).round_index == 5
    assert notes == []
    there = {p.name for p in tmp_path.iterdir()}
    assert there == {*mine, "round-000004", "round-000005"}


def test_what_was_set_aside_before_stays(tmp_path):
    for number in range(3):
        (save(tmp_path, 4) / "checkpoint.json").write_text(f"{number}")
        assert checkpoint.find(tmp_path, []) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "damaged-round-000004", "damaged-round-000004.1", "damaged-round-000004.2",
    ]  # fmt: skip


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
def test_a_run_goes_on_from_the_checkpoint_before(runs, tmp_path, capsys, name):
    config, root = runs
    shutil.copytree(root / "four", tmp_path / "run")
    HARM[name](tmp_path / "run" / "checkpoints" / "round-000004")
    resumed = {"directory": tmp_path / "run", "resume": True, "progress": "lines"}
    assert train(Serial(), config, **resumed) == 0
    told = capsys.readouterr().out
    assert "note: damaged checkpoint round-000004 set aside" in told
    assert "continuing after round 3" in told
    assert digest_of(tmp_path / "run") == digest_of(root / "six")
    assert rounds_of(tmp_path / "run") == rounds_of(root / "six")


def rewritten(directory, file, change):
    """Change a file of tensors, and everything that is known of it."""
    path = directory / file
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    description = directory / "checkpoint.json"

    def new_sum(note):
        entry = next(e for e in note["files"] if e["name"] == file)
        entry["bytes"] = path.stat().st_size
        entry["sha256"] = sha256(path.read_bytes()).hexdigest()

    edit(new_sum)(description)


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        (
            "server.safetensors",
            lambda t: t.update(rows=t["rows"][:, :-1].contiguous()),
            "'rows' is torch.float64",
        ),
        ("server.safetensors", lambda t: t.pop("rho"), "'rho' is absent"),
        (
            "server.safetensors",
            lambda t: t.update(seen=t["seen"].to(torch.uint8)),
            "'seen' is torch.uint8",
        ),
        (
            "clients-00000-00000.safetensors",
            lambda t: t.update({k: v.double() for k, v in t.items() if "dual" in k}),
            "'dual' is torch.float64",
        ),
    ],
)
def test_tensors_of_another_model_are_refused(runs, tmp_path, file, change, told):
    config, root = runs
    shutil.copytree(root / "four", tmp_path / "run")
    directory = tmp_path / "run" / "checkpoints" / "round-000004"
    rewritten(directory, file, change)
    with pytest.raises(ConfigError, match="does not fit this model") as caught:
        train(Serial(), config, directory=tmp_path / "run", resume=True)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_quite_another_run_is_refused_in_few_lines(runs, tmp_path):
    config, root = runs
    shutil.copytree(root / "four", tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "round-000004" / "checkpoint.json"
    odd = {f"{k}{'x' * 1000}": "y" * 1000 for k in range(500)}
    edit(lambda note: note["identity"].update(odd))(path)
    with pytest.raises(ConfigError, match="another configuration") as caught:
        train(Serial(), config, directory=tmp_path / "run", resume=True)
    told = str(caught.value)
    assert told.endswith("and 480 more")
    assert len(told) < 6000


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


def test_a_disk_that_is_full_of_tensors_is_told_with_its_remedy(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensor_files, "save_file", fail)
    with pytest.raises(WriteError, match="No space left on device; free some space"):
        tensor_files.write_tensors(tmp_path / "a", {"x": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []
