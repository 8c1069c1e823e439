"""Sweeps: their cells, what is refused, and the table of their results."""

import csv
import itertools
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedapm_mpi.cli.main import main
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.sweep.grid import (
    MAX_NAME_LENGTH,
    Sweep,
    name_of,
    read_sweep,
    write_cells,
)
from tests.support.processes.cli_runs import experiment, write_config

ONE_RUN = {"rounds": 1, "evaluation": {"every": 1}}


@pytest.fixture
def folder(toy, tmp_path, monkeypatch):
    """Work in a folder with a configuration of one round."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "c.yaml", experiment(toy["features"], **ONE_RUN))
    return tmp_path


def table(folder, name="sweep.csv"):
    return list(csv.DictReader(Path(folder, name).read_text().splitlines()))


def written(folder, **values):
    path = folder / "sweep.yaml"
    text = yaml.safe_dump({"config": "c.yaml", **values}, sort_keys=False)
    path.write_text(text)
    return path


def test_a_grid_has_every_combination_and_a_zip_goes_together():
    sweep = Sweep(
        config="c",
        grid={"a": [1, 2], "b": ["x", "y", "z"]},
        zip={"c": [3, 4], "d": [5, 6]},
    )
    expected = [
        {"a": a, "b": b, "c": c, "d": d}
        for a, b in itertools.product([1, 2], ["x", "y", "z"])
        for c, d in [(3, 5), (4, 6)]
    ]
    assert sweep.cells() == expected


def test_a_zip_alone():
    sweep = Sweep(config="c", zip={"c": [3, 4], "d": [5, 6]})
    assert sweep.cells() == [{"c": 3, "d": 5}, {"c": 4, "d": 6}]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "give grid or zip"),
        ({"gird": {"seed": [1]}}, "gird: unknown key; did you mean 'grid'?"),
        ({"grid": {"seed": 1}}, "grid.seed: input should be a valid list"),
        ({"grid": {"seed": []}}, "seed has no values"),
        ({"grid": {"seed": [1]}, "zip": {"seed": [2]}}, "seed is in grid and in zip"),
        (
            {"zip": {"seed": [1], "algorithm.rho": [1, 2]}},
            "as many values for each key, but seed has 1, algorithm.rho has 2",
        ),
        (
            {"grid": {"seed": [1], "algorithm.roh": [1]}},
            "cell seed=1,roh=1:\n  algorithm 'fedapm': roh: unknown key; "
            "did you mean 'rho'?",
        ),
        ({"grid": {"seed": [1]}, "config": "d.yaml"}, "d.yaml: No such file"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(folder, values, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        read_sweep(written(folder, **values))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"seed": 1, "algorithm.rho": 0.01}, "seed=1,rho=0.01"),
        ({"split.personal": ["head.*", "b"]}, "personal=head._+b-"),
        ({"a.rho": 1, "b.rho": 2}, "rho=1,rho=2-"),
        ({"model": {"name": "mlp", "hidden": [8, 9]}}, "model=name=mlp+hidden=8+9"),
    ],
)
def test_names_say_what_is_replaced(values, name):
    found = name_of(values)
    assert re.fullmatch(
        re.escape(name) + ("[0-9a-f]{8}" if name[-1] == "-" else ""), found
    )


texts = st.text("ab/ .*=,+-", min_size=0, max_size=6)
keys = st.sampled_from(["a.x", "b.x", "c"])
replaced = st.dictionaries(keys, st.one_of(texts, st.integers(0, 3)), min_size=1)


@given(replaced, replaced)
def test_cells_of_one_sweep_never_share_a_name(one, other):
    same = {k: str(v) for k, v in one.items()} == {k: str(v) for k, v in other.items()}
    if list(one) == list(other) and not same:
        assert name_of(one) != name_of(other)
    for name in (name_of(one), name_of(other)):
        assert "/" not in name
        assert len(name) <= MAX_NAME_LENGTH + 9


def test_cells_are_whole_configurations(folder):
    path = written(folder, grid={"model.hidden": [[4], [5, 6]]}, zip={"seed": [7, 8]})
    cells, out = read_sweep(path)
    assert out == Path("runs/sweep")
    write_cells(cells, out)
    names = (out / "cells.txt").read_text().splitlines()
    configs = [
        yaml.safe_load((out / "cells" / f"{name}.yaml").read_text()) for name in names
    ]
    found = [(config["model"]["hidden"], config["seed"]) for config in configs]
    assert found == [([4], 7), ([4], 8), ([5, 6], 7), ([5, 6], 8)]
    assert all(Path(config["data"]).is_absolute() for config in configs)


def test_trained_gathered_and_skipped(folder, capfd):
    path = written(folder, grid={"seed": [1, 2]}, out="here")
    assert main(["sweep", "run", str(path)]) == 0
    lines = table("here")
    assert [(line["seed"], line["state"], line["rounds"]) for line in lines] == [
        ("1", "finished", "1"), ("2", "finished", "1"),
    ]  # fmt: skip
    for line in lines:
        run = Path("here", line["cell"])
        assert line["digest"] == (run / "final" / "digest.txt").read_text().strip()
        clients = table(run, "clients.csv")
        each = [float(client["accuracy"]) for client in clients]
        assert float(line["accuracy_mean"]) == pytest.approx(sum(each) / len(each))
    capfd.readouterr()
    assert main(["sweep", "run", str(path)]) == 0
    assert capfd.readouterr().out.count("finished before") == 2

    # More rounds: both go on. Another penalty: what is there is not its run.
    write_config(
        Path("c.yaml"), {**yaml.safe_load(Path("c.yaml").read_text()), "rounds": 2}
    )
    assert not any(cell.finished for cell in read_sweep(path)[0])
    config = yaml.safe_load(Path("c.yaml").read_text())
    config["algorithm"]["rho"] = 0.7
    write_config(Path("c.yaml"), config)
    with pytest.raises(ConfigError, match="seed=1 was trained with another config"):
        read_sweep(path)


def test_a_cell_that_fails_is_told_and_the_others_are_trained(folder, capfd):
    path = written(folder, zip={"scratch": ["nowhere", None], "seed": [1, 2]})
    assert main(["sweep", "run", str(path)]) == 2
    told = capfd.readouterr()
    assert "1 of 2 runs failed" in told.out
    assert "nowhere" in told.err
    lines = table("runs/sweep")
    assert [line["state"] for line in lines] == ["not started", "finished"]


def test_a_run_that_was_killed_as_it_wrote_does_not_spoil_the_table(folder, capfd):
    path = written(folder, grid={"evaluation.split": ["test", "train"]})
    assert main(["sweep", "run", str(path)]) == 0
    assert "Clients' own test or training parts" in capfd.readouterr().out
    run = read_sweep(path)[0][1].run
    (run / "final" / "digest.txt").unlink()
    rounds = run / "rounds.jsonl"
    rounds.write_text(rounds.read_text()[:-20])
    assert main(["sweep", "table", str(path)]) == 0
    states = [line["state"] for line in table("runs/sweep")]
    assert states == ["finished", "not finished"]


def test_a_table_of_nothing_is_refused(folder, capfd):
    assert main(["sweep", "table", str(written(folder, grid={"seed": [1]}))]) == 2
    assert "no cell of" in capfd.readouterr().err
