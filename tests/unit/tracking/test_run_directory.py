import json

import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tracking.run_directory import (
    RunDirectory,
    lock_run_directory,
    new_run_directory,
    nonfinite_to_none,
)


def test_runs_of_the_same_second_get_directories_of_their_own(tmp_path):
    made = {new_run_directory(tmp_path / "runs", "watch-fedapm") for _ in range(5)}
    assert len(made) == 5
    assert all(path.is_dir() for path in made)


def test_a_named_directory_must_be_empty(tmp_path):
    run = tmp_path / "a" / "b"
    lock_run_directory(run, resume=False).release()
    assert run.is_dir()
    (run / "file").touch()
    with pytest.raises(ConfigError, match="--resume"):
        lock_run_directory(run, resume=False)
    assert [path.name for path in run.iterdir()] == ["file"]


def test_records_are_lines_of_strict_json(tmp_path):
    recorder = RunDirectory(tmp_path)
    recorder.add({"round": 0, "loss": float("nan"), "pooled": {"auroc": float("inf")}})
    recorder.add({"round": 1, "loss": 0.5})
    lines = (tmp_path / "rounds.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"round": 0, "loss": None, "pooled": {"auroc": None}, "check": "2cf622d8"},
        {"round": 1, "loss": 0.5, "check": "92c0df71"},
    ]


def test_going_on_drops_later_rounds_and_a_line_cut_off(tmp_path):
    recorder = RunDirectory(tmp_path)
    for t in range(5):
        recorder.add({"round": t})
    with (tmp_path / "rounds.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"round": 5, "lo')
    again = RunDirectory(tmp_path)
    again.truncate_after(2)
    again.add({"round": 3, "new": True})
    lines = (tmp_path / "rounds.jsonl").read_text("utf-8").splitlines()
    kept = [json.loads(line) for line in lines]
    assert all(len(record.pop("check")) == 8 for record in kept)
    assert kept == [
        {"round": 0},
        {"round": 1},
        {"round": 2},
        {"round": 3, "new": True},
    ]
    assert list(again.records())[-1] == {"round": 3, "new": True}


def test_csv_has_empty_cells_for_nan(tmp_path):
    RunDirectory(tmp_path).write_csv("c.csv", ("a", "b"), [(1, float("nan")), (2, 0.5)])
    assert (tmp_path / "c.csv").read_text("utf-8") == "a,b\n1,\n2,0.5\n"


def test_finite_reaches_into_lists():
    assert nonfinite_to_none([1.0, [float("nan")], (2, float("-inf"))]) == [
        1.0,
        [None],
        [2, None],
    ]
