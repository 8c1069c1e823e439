"""The description of a checkpoint: damaged, of another version, or edited."""

import contextlib
import io
import os

import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage import checkpoint_metadata as descriptions
from fedapm_mpi.storage.checkpoint_metadata import read_description
from fedapm_mpi.utils.strict_json import decode, encode
from tests.support.data.saved_checkpoints import edit, flips, save


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
