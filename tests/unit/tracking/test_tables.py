"""The tables of a run, by what stands in their cells."""

import re

import pytest

from fedapm_mpi.engine.partitioned_model import ParameterInfo
from fedapm_mpi.tracking import tables


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def cells(text):
    """Return the rows of a printed table, a list of cells each."""
    lines = [line for line in text.splitlines() if line.count("│") > 1]
    return [[c.strip() for c in line.strip("│┃ ").split("│")] for line in lines]


def info(name, block, *shape):
    size = 1
    for n in shape:
        size *= n
    return ParameterInfo(name=name, shape=shape, size=size, block=block, clients=8)


def test_parameters_are_counted_by_block(capsys):
    rows = [
        info("body.weight", "shared", 4, 6),
        info("head.weight", "personal", 2, 4),
        info("scale", "frozen", 100),
        info("seen", "counter"),
    ]
    tables.print_parameter_table(rows)
    told = capsys.readouterr().out
    assert ["body.weight", "4×6", "24", "shared"] in cells(told)
    assert ["seen", "1", "1", "counter"] in cells(told)
    assert "shared: 24 of 32 (75.0%)" in told, "frozen ones do not count"
    assert "personal: 8 of 32 (25.0%)" in told


def test_of_many_parameters_the_first_are_listed(capsys):
    rows = [info(f"layer{k}", "shared", 2) for k in range(12)]
    tables.print_parameter_table(rows, longest=10)
    told = capsys.readouterr().out
    assert "layer9" in told
    assert "layer10" not in told
    assert "… 2 more" in told
    assert "shared: 24 of 24" in told


def test_the_summary_names_its_rounds_and_its_clients(capsys):
    accuracy = {
        "last": 0.75, "last_std": 0.5, "last_worst_decile": 0.25,
        "last_worst_decile_clients": 1, "last_clients": 7, "mean_of_last_ten": 0.625,
        "best": 0.8125, "best_round": 4,
    }  # fmt: skip
    summary = {
        "num_clients": 8, "evaluations": 3, "last_evaluated_round": 6,
        "accuracy": accuracy,
    }  # fmt: skip
    tables.print_summary(summary, "test", ["accuracy"])
    told = capsys.readouterr().out
    assert "Clients' own test parts after round 6" in told
    assert "mean of last 3" in told
    (row,) = (row for row in cells(told) if row[0] == "accuracy")
    assert re.search("7 of 8", row[1])
    assert [float(cell) for cell in row[2:]] == [
        0.75, 0.5, 0.25, 1, 0.625, 0.8125, 4,
    ]  # fmt: skip
