"""The study of defaults: its configurations load, and its tables are right."""

import numpy as np
import pytest

from benchmarks.defaults import data, tables
from benchmarks.defaults.rows import CIFAR, METHODS, ROWS
from benchmarks.defaults.study import SETS, Run, configuration, wanted
from fedapm_mpi.algorithms.base import algorithms
from fedapm_mpi.config.loader import validate


def test_every_method_is_studied():
    assert {"fedapm", *METHODS} == set(algorithms.builtin_names())
    named = {name.partition(":")[0] for name in ROWS}
    same = {"fedsim"}  # which is FedPer
    assert set(METHODS) - named == same


@pytest.mark.parametrize("row", [row for row in ROWS if not row.startswith("by name")])
def test_every_configuration_loads_and_says_everything(row):
    """Whatever the package's defaults are: nothing that matters is left to them."""
    for value, changes in ROWS[row].items():
        config = configuration(Run(row, value, "watch", 1, changes))
        checked = validate(config, "test")
        sizes = [key for key in config["algorithm"] if key.startswith("lr")]
        assert sizes or {"zeta", "curvature"} & config["algorithm"].keys()
        assert checked.optimizer is not None
        assert validate(checked.plain(), "again") == checked


def test_the_final_check_leaves_all_to_the_package():
    for changes in ROWS["by name: method"].values():
        assert changes.keys() == {"algorithm"}
        config = configuration(Run("by name: method", "x", "watch", 1, changes))
        assert validate(config, "test").optimizer is not None


def test_the_centre_is_a_value_of_each_row_of_fedapm():
    wide = {"sgd: lr", "momentum: lr", "rho, lr 0.004"}
    for row, values in ROWS.items():
        if ":" not in row and row not in wide:
            assert any(one == ROWS["rho"]["0.1"] for one in values.values()), row


def test_runs_are_named_once():
    runs = list(wanted(["*"], list(SETS), 2))
    assert len({run.key for run in runs}) == len(runs)
    images = [run for run in runs if run.data in CIFAR]
    assert all(configuration(run)["model"]["name"] == "cnn" for run in images)


def line(value, name, seed, accuracy):
    return {"row": "r", "value": value, "data": name, "seed": seed,
            "accuracy": str(accuracy)}  # fmt: skip


def test_losses_are_against_the_best_of_each_data_set():
    lines = [
        line("a", "watch", "1", 0.9), line("a", "watch", "2", 0.7),
        line("b", "watch", "1", 0.5), line("b", "watch", "2", 0.5),
        line("a", "star", "1", 0.25), line("b", "star", "1", 0.5),
        line("a", "hapt", "1", 1.0),
    ]  # fmt: skip
    a, b = tables.rows(lines)["r"]
    assert a.accuracy == {"watch": pytest.approx(0.8), "star": 0.25}
    assert (a.mean_loss, a.worst_loss) == (pytest.approx(0.125), 0.25)
    assert (b.mean_loss, b.worst_loss) == (pytest.approx(0.15), pytest.approx(0.3))
    assert "| a | 0.800 | 0.250 | 0.125 | **0.250** |" in tables.markdown("r", [a, b])


def test_columns_are_scaled_by_training_samples():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [100.0, 7.0]])
    found = data.standardised(x, np.array([True, True, False]))
    np.testing.assert_allclose(found, [[-1, 0], [1, 0], [98, 2]])


def test_a_table_of_texts_and_gaps(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "who,size,color,label,name\na,1,red,0,x\nb,,blue,1,y\na,3,red,1,z\n"
    )
    x, rows = data.table(path, "who", "label", ("name",))
    assert [row["who"] for row in rows] == ["a", "b", "a"]
    columns = {tuple(column) for column in x.T}
    assert columns == {(1, 2, 3), (0, 1, 0), (1, 0, 1)}  # size; missing and blue; red
    assert x.shape == (3, 4)
