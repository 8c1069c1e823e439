"""The folder of a run's checkpoints: their order, and names that do not count."""

import shutil

from fedapm_mpi.comm import Serial
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage.checkpoint_folder import present
from tests.support.data.saved_checkpoints import save


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
