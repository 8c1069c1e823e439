"""``fedapm split``: its tables and files, and what it refuses."""

import csv
import json
from pathlib import Path

import pytest

from fedapm_mpi import errors
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.cli import main as cli
from fedapm_mpi.cli.split import with_auto_split
from tests.support.processes.cli_runs import experiment, write_config

NAMES = ["nothing", "output_bias", "biases", "head", "head+biases", "first_1", "all"]
SHORT = ["split.auto.rounds=1"]


@pytest.fixture(autouse=True)
def _outside_a_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def config(toy, tmp_path) -> Path:
    """A configuration without a split."""
    values = experiment(toy["features"])
    del values["split"]
    return write_config(tmp_path / "c.yaml", values)


def names(printed):
    """Return the first cell of each row of the printed table."""
    rows = [line.split("│") for line in printed.splitlines() if line.startswith("│")]
    return [cells[1].strip() for cells in rows]


def test_the_list_has_every_candidate(config, capsys):
    assert cli.main(["split", str(config), "--list"]) == 0
    printed = capsys.readouterr().out
    assert names(printed) == NAMES
    # A body of 6 · 8 + 8 and a head of 8 · 3 + 3; four bytes down and eight up.
    (row,) = (line for line in printed.splitlines() if "│ biases" in line)
    cells = [cell.strip() for cell in row.split("│")[2:5]]
    assert cells == ["11", "72", f"{72 * 12}"]


def test_candidates_are_tested_and_written(config, tmp_path, capsys):
    out, plot = tmp_path / "new" / "out", tmp_path / "lm.png"
    words = ["split", str(config), "--out", str(out), "--plot", str(plot), *SHORT]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert names(printed) == NAMES
    assert printed.count(" chosen ") == 1
    with (out / "candidates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows].count("nothing") == 4
    assert list(dict.fromkeys(row["candidate"] for row in rows)) == NAMES
    (last,) = (row for row in rows if row["candidate"] == "all")
    assert (last["shared"], last["bytes"], last["layer"]) == ("0", "0", "")
    choice = json.loads((out / "split_choice.json").read_text())
    chosen = {row["candidate"] for row in rows if row["chosen"] == "1"}
    assert chosen == {choice["chosen"]}
    enough = [c["name"] for c in choice["candidates"] if c["suffices"]]
    assert choice["chosen"] == enough[0]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_line_to_copy_trains(config, tmp_path, capsys):
    assert cli.main(["split", str(config), "--candidates", "biases", *SHORT]) == 0
    line = capsys.readouterr().out.splitlines()[-1].strip()
    assert line == 'split: {"personal": ["body.0.bias", "head.bias"]}'
    again = config.with_name("again.yaml")
    again.write_text(config.read_text() + line + "\n")
    assert cli.main(["train", str(again), "--print-config"]) == 0


def test_only_some_candidates(config, capsys):
    words = ["split", str(config), "--candidates", "head, nothing", *SHORT]
    assert cli.main(words) == 0
    assert names(capsys.readouterr().out) == ["nothing", "head"]
    assert cli.main(["split", str(config), "--candidates", "heads"]) == 2
    assert "did you mean 'head'" in capsys.readouterr().err


def test_another_split_in_the_file_does_not_matter(toy, tmp_path):
    path = write_config(tmp_path / "c.yaml", experiment(toy["features"]))
    found = with_auto_split(str(path), [])
    assert found["split"]["personal"] is None
    assert found["split"]["auto"]["candidates"] is None


def test_options_of_a_search_in_the_file_hold(toy, tmp_path):
    values = experiment(toy["features"], split={"auto": {"rounds": 3}})
    path = write_config(tmp_path / "c.yaml", values)
    found = with_auto_split(str(path), ["split.auto.level=0.1"])
    assert found["split"]["auto"]["rounds"] == 3
    assert found["split"]["auto"]["level"] == 0.1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"split": {"auto": {"round": 3}}}, "rounds"),
        ({"algorithm": "fedavg"}, "algorithm 'fedavg' has no split"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_configurations_that_are_refused(config, changes, expected):
    values = json.loads(json.dumps(experiment(Path("x")))) | changes
    del values["split"]
    values |= {key: changes[key] for key in changes}
    if values["algorithm"] == "fedavg":
        values["algorithm"] = {"name": "fedavg", "lr": 0.1, "batch_size": 8}
        values["algorithm"]["work"] = {"epochs": 1}
    write_config(config, values)
    with pytest.raises(errors.ConfigError, match=expected):
        with_auto_split(str(config), [])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--list", "--out", "x"], "--list tests nothing"),
        (["--plot", "x.txt"], "name it so"),
        (["--plot", "no/x.png"], "there is no folder no"),
        (["--out", "c.yaml"], "is not a folder"),
    ],
)
def test_files_that_cannot_be_written_are_refused_first(
    config, flags, expected, monkeypatch, capsys
):
    monkeypatch.chdir(config.parent)
    assert cli.main(["split", "c.yaml", *flags]) == 2
    assert expected in capsys.readouterr().err


def test_without_a_configuration(capsys):
    assert cli.main(["split"]) == 2
    assert "CONFIG" in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["federation_sensitivity", "fedselect"])
def test_another_rule_chooses(config, rule, tmp_path, capsys):
    words = ["split", str(config), f"split.auto.rule={rule}"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert f"Scores of the rule {rule}" in " ".join(printed.split())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["split_choice.json"]
    found = json.loads((tmp_path / "out" / "split_choice.json").read_text())
    assert found["candidates"] == []
    assert set(found["scores"]) >= {"head"} or set(found["scores"]) >= {"head.bias"}
    assert all(f"│ {name} " in printed for name in found["scores"])
    assert cli.main([*words, "--plot", str(tmp_path / "a.png")]) == 2
    assert "--plot: draws LM" in capsys.readouterr().err
    assert cli.main([*words, "split.auto.rounds=2"]) == 2
    assert "rounds has no effect with rule" in capsys.readouterr().err


def test_a_choice_of_fedselect_fits_its_budget(config, tmp_path):
    out = tmp_path / "out"
    words = ["split", str(config), "split.auto.rule=fedselect", "--out", str(out)]
    assert cli.main(words) == 0
    chosen = json.loads((out / "split_choice.json").read_text())["split"]["personal"]
    sizes = {"body.0.weight": 48, "body.0.bias": 8, "head.weight": 24, "head.bias": 3}
    assert 0 < sum(sizes[name] for name in chosen) <= 83 / 4


def test_a_rule_needs_an_algorithm_that_takes_both_ends(config, monkeypatch, capsys):
    monkeypatch.setattr(FedAPM, "trained_blocks", lambda self: ())
    assert cli.main(["split", str(config), "split.auto.rule=fedselect"]) == 2
    assert "looks at clients that share nothing" in capsys.readouterr().err
