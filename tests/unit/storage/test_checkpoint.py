import json

import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.errors import WriteError
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.utils.atomic_io import atomic_write, write_text


def state(value: float) -> dict[str, torch.Tensor]:
    return {
        "shared": torch.full((3,), value),
        "personal": torch.full((2,), -value),
        "counters": torch.tensor([7]),
    }


def save(root, t: int, keep: int = 2) -> None:
    checkpoint.save(
        Serial(),
        root,
        t,
        identity={"seed": 1},
        server={"rows": torch.full((1, 3), float(t), dtype=torch.float64)},
        states={4: state(t), 9: state(10 * t)},
        keep=keep,
    )


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path, 5)
    saved = checkpoint.load_newest(Serial(), tmp_path, [])
    assert (saved.round_index, saved.identity) == (5, {"seed": 1})
    states = checkpoint.load_states(saved, [9, 4, 2])
    assert sorted(states) == [4, 9]
    for name, tensor in state(50).items():
        assert torch.equal(states[9][name], tensor)
        assert states[9][name].dtype == tensor.dtype
    assert checkpoint.load_server(saved)["rows"].tolist() == [[5.0, 5.0, 5.0]]


def test_only_asked_for_clients_are_loaded(tmp_path):
    save(tmp_path, 5)
    saved = checkpoint.load_newest(Serial(), tmp_path, [])
    assert list(checkpoint.load_states(saved, [4])) == [4]


def test_states_are_cut_into_files(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FILE_BYTES", 1)
    save(tmp_path, 5)
    saved = checkpoint.load_newest(Serial(), tmp_path, [])
    assert sum(bool(entry["clients"]) for entry in saved.files) == 2
    assert sorted(checkpoint.load_states(saved, range(10))) == [4, 9]


def test_only_the_last_few_are_kept(tmp_path):
    for t in range(1, 6):
        save(tmp_path, t, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "round-000004",
        "round-000005",
    ]


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "note"])
def test_a_damaged_one_is_set_aside_and_the_one_before_used(tmp_path, harm):
    save(tmp_path, 1)
    save(tmp_path, 2)
    victim = next((tmp_path / "round-000002").glob("clients-*"))
    if harm == "flip":
        raw = bytearray(victim.read_bytes())
        raw[-1] ^= 1
        victim.write_bytes(raw)
    elif harm == "cut":
        victim.write_bytes(victim.read_bytes()[:-4])
    elif harm == "remove":
        victim.unlink()
    else:
        (tmp_path / "round-000002" / "checkpoint.json").write_text("{", "utf-8")
    notes: list[str] = []
    assert checkpoint.load_newest(Serial(), tmp_path, notes).round_index == 1
    assert len(notes) == 1
    assert "round-000002" in notes[0]
    save(tmp_path, 2)  # the run comes there again, and must not lose the good ones
    assert checkpoint.load_newest(Serial(), tmp_path, []).round_index == 2


def test_all_damaged_is_an_error_that_names_each(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    for path in tmp_path.glob("round-*/server.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoint.load_newest(Serial(), tmp_path, [])
    assert "round-000001" in str(caught.value)
    assert "round-000002" in str(caught.value)


def test_a_half_written_one_does_not_count_and_is_cleared(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".round-000002").mkdir()
    (tmp_path / ".round-000002" / "server.safetensors").write_bytes(b"half")
    assert checkpoint.load_newest(Serial(), tmp_path, []).round_index == 1
    save(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "round-000001",
        "round-000002",
    ]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "note.json"
    write_text(path, "old")

    def full(part):
        part.write_text("ne", "utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match="No space left"):
        atomic_write(path, full)
    assert path.read_text("utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["note.json"]


def test_files_are_the_same_bytes_for_the_same_state(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(tmp_path / name, 3)
    first, second = (
        json.loads((tmp_path / n / "round-000003/checkpoint.json").read_text("utf-8"))
        for n in ("a", "b")
    )
    assert first == second
