"""Inputs and columns spread over clients: who sees what, and what it is."""

import csv

import numpy as np
import pytest

from data_prep.pipeline import plan
from data_prep.shifts import Clients, shifts
from data_prep.table_encoding import input_names
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.cli import verify as verify_command
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.table import Table, column, iter_blocks
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.training.runner import train
from tests.support.preparation import command, everyone, prepare
from tests.support.processes.cli_runs import small_har

M, N, WIDTH = 5, 60, 12
ALL = ("partitioner=all-samples", "clients=3", "shift=vertical")


def made(*names):
    rng = np.random.default_rng(0)
    known = {
        "x": column("x", rng.normal(1, 0.1, (N, WIDTH)).astype(np.float32)),
        "acc": column("acc", rng.normal(1, 0.1, (N, 4, 3))),
        "image": column("image", np.full((N, 2, 4, 4), 9, np.uint8), shift=-1.0),
        "series": column("series", np.ones((N, 5)), lengths=np.full(N, 2)),
        "codes": column("codes", np.ones((N, 5), np.int64), codes=3),
        "number": column("number", np.ones(N)),
        "code": column("code", np.ones(N, np.int64), codes=3),
    }
    return Table("made", [known[name] for name in names], np.arange(N) % 2, ["a", "b"])


CLIENTS = Clients(M, np.arange(N) % M, np.arange(N) % 4 > 0, 3)


def spread(*names, clients=CLIENTS, **options):
    return shifts.get("vertical")(made(*names), clients, **options)


def values(table, number=0):
    return np.concatenate(list(iter_blocks(table.columns[number], np.arange(N))))


def held(shifted, number=0):
    """Return which columns clients have, after a look at all values."""
    before, after = values(made("x")), values(shifted.table, number)
    found = shifted.table.columns[number].held
    of_sample = found[CLIENTS.owner]
    np.testing.assert_array_equal(after, np.where(of_sample, before, 0))
    return found


def test_columns_are_cut_in_order():
    shifted = spread("x")
    found = held(shifted)
    assert (found.sum(axis=0) == 1).all()
    assert [np.flatnonzero(own).tolist() for own in found] == [
        [0, 1, 2], [3, 4, 5], [6, 7], [8, 9], [10, 11],
    ]  # fmt: skip
    assert shifted.notes[0] == "x.0, x.1, x.2"
    assert (shifted.table.labels == made("x").labels).all()


def test_fewer_pieces_than_clients():
    found = held(spread("x", pieces=2))
    assert (found[0] == found[2]).all()
    assert (found[0] == found[4]).all()
    assert (found[0] == ~found[1]).all()


def test_random_order_is_that_of_the_seed():
    one, two = (held(spread("x", order="random")) for _ in range(2))
    other = held(spread("x", order="random", clients=CLIENTS._replace(seed=4)))
    assert (one == two).all()
    assert (one != other).any()
    assert (one.sum(axis=0) == 1).all()
    assert sorted(one.sum(axis=1)) == [2, 2, 2, 3, 3]


def test_overlap_and_common_columns():
    plain = held(spread("x"))
    found = held(spread("x", overlap=0.5))
    assert (found >= plain).all()
    rest = WIDTH - plain.sum(axis=1)
    np.testing.assert_array_equal((found & ~plain).sum(axis=1), np.round(rest / 2))
    assert len({tuple(own) for own in (found & ~plain).tolist()}) == M
    common = held(spread("x", common=["x.0", "x.11"]))
    assert common[:, [0, 11]].all()
    assert (common[:, 1:11].sum(axis=0) == 1).all()


def test_named_pieces():
    names = [f"x.{k}" for k in range(WIDTH)]
    found = held(spread("x", pieces=[names[:8], names[6:]]))
    assert found[0].tolist() == [True] * 8 + [False] * 4
    assert found[1].tolist() == [False] * 6 + [True] * 6
    assert (found[0] == found[4]).all()


def test_whole_inputs_are_lacking():
    shifted = spread("x", "acc", "codes", pieces=3)
    for number, c in enumerate(shifted.table.columns):
        has = c.lengths > 0
        assert (has == (CLIENTS.owner % 3 == number)).all()
        after = values(shifted.table, number)
        assert (after[has] == values(made("x", "acc", "codes"), number)[has]).all()
        assert not after[~has].any()
        assert c.held is None
    assert list(shifted.notes) == ["x", "acc", "codes", "x", "acc"]


def test_columns_of_one_input_besides_another():
    names = [["image", "acc.0"], ["acc.1", "acc.2"]]
    shifted = spread("acc", "image", "number", columns=["acc"], pieces=names,
                     common=["number"])  # fmt: skip
    acc, image, number = shifted.table.columns
    assert acc.held.tolist()[:2] == [[True, False, False], [False, True, True]]
    assert acc.lengths is None
    assert ((image.lengths > 0) == (CLIENTS.owner % 2 == 0)).all()
    assert number.lengths is None


def test_a_number_is_a_column():
    shifted = spread("number", "acc")
    number = shifted.table.columns[0]
    assert number.held.tolist() == [[True], [False], [True], [False], [True]]
    assert (values(shifted.table) == (CLIENTS.owner % 2 == 0)).all()
    assert number.lengths is None
    assert shifted.notes[:2] == ["number", "acc"]
    missing = shifts.get("missing")(made("acc", "x"), CLIENTS, by="sample").table
    acc = missing.columns[0]
    both = Table("t", [made("number").columns[0], acc], missing.labels, ["a", "b"])
    with pytest.raises(DataError, match="without any input, the first of client 1"):
        shifts.get("vertical")(both, CLIENTS)


def test_a_client_without_any_column_lacks_the_input():
    names = [["acc.0", "acc.1", "acc.2"], ["image"]]
    shifted = spread("acc", "image", columns=["acc"], pieces=names)
    acc = shifted.table.columns[0]
    assert acc.held.any(axis=1).tolist() == [True, False, True, False, True]
    assert ((acc.lengths > 0) == (CLIENTS.owner % 2 == 0)).all()


def test_columns_of_an_image():
    after = values(spread("image", pieces=2).table)
    first = CLIENTS.owner % 2 == 0
    assert (after[first][..., :2] == 9).all()
    assert (after[first][..., 2:] == 1).all()  # what a model sees as 0
    assert (after[~first][..., :2] == 1).all()


FAULTS = {
    "overlap": (("x",), {"overlap": 1.0}, "shift.overlap must be at least 0 and bel"),
    "pieces": (("x",), {"pieces": 6}, "makes 6 pieces; there may be from 2 to 5"),
    "one piece": (("x",), {"pieces": 1}, "makes 1 pieces; there may be from 2 to 5"),
    "no pieces": (("x",), {"pieces": []}, "makes 0 pieces; there may be from 2 to 5"),
    "input": (("x",), {"columns": ["y"]}, "shift.columns: the data set has no input"),
    "common": (("x",), {"common": ["x.12"]}, "no input or column 'x.12'; did you mean"),
    "piece": (("x", "acc"), {"pieces": [["x"], ["ac"]]}, "shift.pieces: there is no"),
    "left": (("x", "acc", "image"), {"pieces": [["x"], ["acc"]]}, "no piece has image"),
    "empty": (("x", "acc"), {"pieces": [["x", "acc"], []]}, "a piece is empty"),
    "all common": (("x", "acc"), {"common": ["x"]}, "spreads 1 inputs or columns over"),
    "none to divide": (("x", "acc"), {"common": ["x", "acc"]}, "spreads 0"),
    "codes": (("codes",), {}, "'codes' holds codes and has no columns"),
    "series": (("series",), {}, "'series' is a series of numbers and has no columns"),
    "number": (("number",), {}, "'number' is a number and has no columns"),
    "a code": (("code", "x"), {}, "'code' is a number and can't be empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_spread(case):
    names, options, words = FAULTS[case]
    with pytest.raises(ConfigError, match=words):
        spread(*names, **options)


def test_one_client_has_nobody_to_differ_from():
    alone = Clients(1, np.zeros(N, int), np.ones(N, bool), 0)
    with pytest.raises(ConfigError, match="over 1 clients, and needs two of both"):
        spread("x", clients=alone)


def test_samples_that_would_have_nothing():
    table = made("x", "acc")
    missing = shifts.get("missing")(table, CLIENTS, by="sample").table
    with pytest.raises(DataError, match="without any input, the first of client 0"):
        shifts.get("vertical")(missing, CLIENTS)


def test_comes_last():
    with pytest.raises(ConfigError, match="shift: vertical must be the last"):
        plan("arrays", {"shift": ["vertical", "noise"]})
    assert len(plan("arrays", {"shift": ["noise", "vertical"]}).shifts) == 2


# From the command line ---------------------------------------------------------------


@pytest.fixture
def origin(tmp_path):
    path = tmp_path / "two.npz"
    rng = np.random.default_rng(1)
    acc, gyro = rng.normal(size=(2, 96, 16, 3)).astype(np.float32)
    np.savez(path, x_acc=acc, x_gyro=gyro, y=np.arange(96) % 2,
             client=np.arange(96) // 12)  # fmt: skip
    return path


def test_a_table_is_spread_by_its_own_columns(tmp_path, capsys):
    rng = np.random.default_rng(0)
    path = tmp_path / "made.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["age", "sex", "bp", "site", "y"])
        for k in range(60):
            bp = "" if k % 7 == 0 else rng.integers(90, 160)
            rows.writerow([k, "mf"[k % 2], bp, "abc"[k % 3], k % 2])
    words = ("target=y", "missing=mean")
    whole = prepare("table", path, tmp_path / "whole", *words, "partitioner=iid",
                    "clients=1")  # fmt: skip
    manifest = prepare("table", path, tmp_path / "to", *words, *ALL,
                       "shift.common=[age]")  # fmt: skip
    names = input_names(manifest.encoding)
    assert names[:4] == ["age", "sex=f", "sex=m", "bp"]
    assert manifest.columns == {"x": ((0, 1, 2), (0, 3, 4), (0, 5, 6, 7))}
    assert manifest.client_names[1] == "client 1 (age, bp)"
    for split, clients in everyone(manifest).items():
        before = everyone(whole)[split][0].inputs["x"]
        for client, arrays in enumerate(clients):
            wanted = np.zeros_like(before)
            own = list(manifest.columns["x"][client])
            wanted[:, own] = before[:, own]
            np.testing.assert_array_equal(arrays.inputs["x"], wanted)
    capsys.readouterr()
    assert command(verify_command, tmp_path / "to") == 0
    command(inspect_command, tmp_path / "to")
    assert "client 2 of it: age, site\n" in capsys.readouterr().out


def test_codes_of_a_table_are_missing(tmp_path, capsys):
    path = tmp_path / "made.csv"
    lines = [f"{k % 5},{'pqr'[k % 3]},{k % 2},{k % 2}" for k in range(60)]
    path.write_text("\n".join(["a,who,b,y", *lines, ""]))
    manifest = prepare("table", path, tmp_path / "to", "target=y", "ids=[who]", *ALL)
    assert manifest.columns == {
        "x": ((0,), (1,), ()), "who": ((), (), (0,)),
    }  # fmt: skip
    assert manifest.lacking == {"x": (2,)}
    for clients in everyone(manifest).values():
        who = [arrays.inputs["who"] for arrays in clients]
        assert not who[0].any()
        assert not who[1].any()
        assert who[2].all()
    assert command(verify_command, tmp_path / "to") == 0
    command(inspect_command, tmp_path / "to")
    out = capsys.readouterr().out
    assert "client 1 of it: b\n" in out
    assert "client 2 of it: all\n" in out


def test_a_run_on_inputs_spread_over_clients(origin, tmp_path):
    """Clients train on the same samples, each by its own input."""
    manifest = prepare("arrays", origin, tmp_path / "to", *ALL)
    assert manifest.lacking == {"acc": (1,), "gyro": (0, 2)}
    assert manifest.columns == {}
    assert manifest.client_names == ("client 0 (acc)", "client 1 (gyro)",
                                     "client 2 (acc)")  # fmt: skip
    values = small_har(tmp_path / "to") | {
        "groups": [{"missing_inputs": ["gyro"]}, {"missing_inputs": ["acc"]}],
        "partially_shared": ["acc_rnn.*", "gyro_rnn.*"],
    }
    train(Serial(), validate(values, "t"), directory=tmp_path / "run", progress="none")
    for client, own in enumerate(("acc", "gyro", "acc")):
        names = dict(load_client_model(tmp_path / "run", client).named_parameters())
        assert {name.split("_")[0] for name in names if "_conv" in name} == {own}


def test_any_partition_can_be_spread(origin, tmp_path):
    plain = prepare("arrays", origin, tmp_path / "a")
    words = ("shift=vertical", "shift.columns=[gyro]", "store=float16")
    manifest = prepare("arrays", origin, tmp_path / "b", *words)
    assert (manifest.counts["train"] == plain.counts["train"]).all()
    assert manifest.lacking == {"acc": (1, 2, 3, 5, 6, 7), "gyro": (0, 4)}
    assert manifest.columns["gyro"][:4] == ((), (0,), (1,), (2,))
    assert command(verify_command, tmp_path / "b") == 0
