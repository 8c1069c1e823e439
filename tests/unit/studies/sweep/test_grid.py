"""Sweeps: their cells, what is refused, and the table of their results."""

import itertools
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

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
    ("values", "expected"),
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
def test_what_is_wrong_is_reported_before_anything_is_trained(folder, values, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
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
