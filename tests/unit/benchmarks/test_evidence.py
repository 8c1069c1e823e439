"""The study of methods: what is separated, what a row keeps, what a table says."""

import csv
import sys
from math import ceil

import numpy as np
import pytest
import torch

from benchmarks.evidence import bootstrap, data, held_out, reproduce, results, tables
from benchmarks.evidence.reproduce import band, compare
from benchmarks.evidence.study import (
    METHODS,
    REPLICATES,
    Cell,
    Final,
    configuration,
    final,
    finals,
)
from fedapm_mpi.algorithms.base import algorithms
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.yaml_io import dump
from fedapm_mpi.engine.tensor_files import read_tensors
from tests.support.processes.cli_runs import FEDSIM, experiment


def test_an_interval_is_that_of_an_additive_model():
    """Of a_s + b_c a drawn mean has the variance var(a)/S + var(b)/m."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40), rng.normal(size=60) * 2
    values = a[:, None] + b
    found = bootstrap.difference(values, np.zeros_like(values))
    sd = (a.var() / 40 + b.var() / 60) ** 0.5
    assert found.value == pytest.approx(values.mean())
    # 2 000 draws know a width to 3 %.
    assert (found.high - found.low) / (2 * 1.96 * sd) == pytest.approx(1, abs=0.08)


def test_what_clients_and_seeds_have_in_common_cancels():
    rng = np.random.default_rng(2)
    hard = rng.normal(size=(5, 20)) * 10
    found = bootstrap.difference(hard + 0.01, hard)
    assert not found.level
    assert found.low == pytest.approx(0.01)
    assert found.high == pytest.approx(0.01)
    assert bootstrap.difference(hard, hard).level
    noise = rng.normal(size=(5, 20))
    assert bootstrap.difference(hard + noise - noise.mean(), hard).level
    with pytest.raises(ValueError, match=r"\(5, 20\) and \(4, 20\)"):
        bootstrap.difference(hard, hard[:4])


@pytest.mark.parametrize("clients", [1, 9, 10, 11, 20, 60])
def test_the_worst_decile_is_that_of_a_loop(clients):
    rng = np.random.default_rng(clients)
    values = rng.normal(size=(3, clients))
    values[0, : clients // 3] = np.nan
    expected = []
    for row in values:
        known = sorted(one for one in row if not np.isnan(one))
        expected.append(known[: ceil(len(known) / 10)])
    found = bootstrap.worst_decile(values)
    assert found == pytest.approx(np.mean([np.mean(row) for row in expected]))
    many = bootstrap.worst_decile(np.stack([values, values + 1]))
    assert many[1] - many[0] == pytest.approx(1)


def test_a_spread_is_at_least_that_of_rounding():
    assert bootstrap.spread(np.array([1.0, 2, 3]), np.array([1.0])) == 1
    assert bootstrap.spread(np.array([1.0, 1, 1]), np.array([0.0, 2, 4])) == 2
    assert np.isnan(bootstrap.spread(np.array([1.0]), np.array([1.0])))


def test_a_tenth_of_each_clients_labels_is_kept():
    counts = {"a": 3, "b": 10, "c": 25}
    client = np.repeat(list(counts), list(counts.values()))
    split = np.where(np.arange(len(client)) % 5 == 4, data.TEST, data.TRAIN)
    kept = data.with_few_labels({"client": client, "split": split})["split"]
    for name in counts:
        own = client == name
        before = (split[own] == data.TRAIN).sum()
        assert (kept[own] == data.TRAIN).sum() == ceil(before / 10)
    assert ((kept == data.TEST) == (split == data.TEST)).all()


def test_all_methods_are_compared_from_their_defaults(tmp_path):
    assert sorted(METHODS) == algorithms.builtin_names()
    cell = Cell("watch-few", "30%", "fedapm")
    values = configuration(cell, tmp_path)
    assert values["algorithm"] == "fedapm"
    assert values["participation"] == {"name": "random", "fraction": 0.3}
    names = [run.name for run in finals("watch-few")]
    assert names == [
        *(f"test-{seed}" for seed in range(100, 105)),
        *(f"test-100-{k + 1}" for k in range(REPLICATES)),
    ]
    assert len(finals("cifar-b0.5")) == 3 + REPLICATES


@pytest.fixture(scope="module")
def study(toy, tmp_path_factory):
    """Return a folder with the final runs of one small cell, and its setting."""
    folder = tmp_path_factory.mktemp("study")
    path = toy["features"]
    values = experiment(path, algorithm={"name": "fedsim"} | FEDSIM, rounds=4)
    setting = folder / "setting.yaml"
    setting.write_text(dump(validate(values, "test").plain()))
    cell = Cell(path.name, "full", "fedsim")
    runs = [Final(100, 0), Final(101, 0), Final(100, 1)]
    for run in runs:
        final(cell, setting, folder, run, data=path.parent)
    return cell, folder, setting, runs


def rows_of(study, tmp_path):
    cell, folder, _, runs = study
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, results.COLUMNS)
        writer.writeheader()
        for run in runs:
            found = results.read_run(
                cell.folder(folder) / run.name, cell.method, run, passes=4
            )
            writer.writerow(found)
    return results.read_rows(path)


def test_a_row_holds_what_its_run_came_to(study, tmp_path):
    rows = rows_of(study, tmp_path)
    first, other, replicate = rows
    mean = first.clients().mean()
    assert mean == pytest.approx(first.number("accuracy"), abs=1e-5)
    assert first.curve()[-1] == (4, first.number("accuracy"))
    assert len({row.values["digest"] for row in rows}) == 3
    assert first.values["data"] == other.values["data"] != ""
    assert replicate.final == Final(100, 1)


def test_a_row_trained_again_has_its_digest_and_lies_in_its_band(study, tmp_path):
    cell, _, setting, _ = study
    rows = rows_of(study, tmp_path)
    one = tables.Method("fedsim", rows)
    again = tmp_path / "again"
    final(cell, setting, again, Final(101, 0))
    here = results.read_run(
        cell.folder(again) / "test-101", "fedsim", Final(101, 0), passes=4
    )
    here = {key: str(value) for key, value in here.items()}
    text, inside = compare(rows[1], one, here)
    assert inside
    assert "digest      the same" in text
    low, high = band(one)
    outside = {**here, "accuracy": str(high + 0.01), "processor": "another"}
    text, inside = compare(rows[1], one, outside)
    assert not inside
    assert "OUTSIDE" in text
    assert "another here" in text
    # Two seeds: Student's t of one degree of freedom, times s (1 + 1/2)^½.
    seeds = np.array([rows[0].number("accuracy"), rows[1].number("accuracy")])
    again = np.array([rows[0].number("accuracy"), rows[2].number("accuracy")])
    wide = max(seeds.std(ddof=1), again.std(ddof=1))
    assert high - low == pytest.approx(2 * 12.7062 * wide * 1.5**0.5)


def made_up(method, seed, accuracy, curve="", clients="0.5 0.7"):
    values = dict.fromkeys(results.COLUMNS, "")
    values |= {"method": method, "accuracy": accuracy, "clients": clients}
    values |= {"worst_decile": "0.5", "bytes": "1000000", "curve": curve}
    values |= {"rounds": "4", "passes": "8"}
    return results.Row(method, Final(seed, 0), values)


def test_a_table_says_what_is_level_and_what_was_not_finite():
    rows = [
        made_up("fedapm", 1, "0.6", "2:0.5 4:0.6"),
        made_up("fedapm", 2, "0.6", "2:0.58 4:0.6"),
        made_up("local", 1, "0.6", "2:0.5 4:0.6"),
        made_up("local", 2, "0.6", "2:0.5 4:0.5"),
        made_up("ditto", 1, "0.2", "2:0.1 4:0.2", "0.1 0.3"),
        made_up("ditto", 2, "", "", ""),
    ]
    lines = tables.table(rows).splitlines()
    assert "rounds to 0.570" in lines[0]
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines[2:]}
    assert cells["local"][2].startswith("level")
    assert cells["ditto"][2].startswith("+0.500")  # zeros for the one that failed
    assert "(1 not finite)" in cells["ditto"][-1]
    assert cells["fedapm"][8:11] == ["3", "6", "3.00"]
    assert cells["local"][8] == "4 (1/2)"
    summary = tables.summary({"made-up": rows}).splitlines()
    assert "| local | = = = |" in summary
    assert "| ditto | + + + |" in summary


def test_a_table_with_holes_compares_the_seeds_that_both_have():
    rows = [
        made_up("fedapm", 1, "0.6", "2:0.6", "0.5 0.7"),
        made_up("fedapm", 2, "0.2", "2:0.2", "0.1 0.3"),
        made_up("local", 2, "0.5", "4:0.5", "0.4 0.6"),
        made_up("ditto", 3, "0.5", "2:0.5", "0.4 0.6"),
    ]
    by_name = {name: tables.Method(name, rows) for name in ("fedapm", "local", "ditto")}
    found = tables.compared(by_name["fedapm"], by_name["local"], bootstrap.mean)
    assert found is not None
    assert found.value == pytest.approx(-0.3)  # of seed 2 alone
    lines = tables.table(rows).splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines[2:]}
    assert cells["local"][2].startswith("-0.300")
    assert cells["ditto"][2] == "–"
    summary = tables.summary({"made-up": rows}).splitlines()
    assert "| local | − − − |" in summary
    assert "| ditto | – |" in summary


def test_each_method_is_compared_with_the_best():
    one = [made_up("fedapm", k, "0.6", clients="0.5 0.7") for k in (1, 2)]
    one += [made_up("local", k, "0.2", clients="0.1 0.3") for k in (1, 2)]
    two = [made_up("fedapm", k, "0.5", clients="0.5 0.5") for k in (1, 2)]
    two += [made_up("local", k, "0.55", clients="0.3 0.8") for k in (1, 2)]
    two += [made_up("ditto", k, "0.1", clients="0.1 0.1") for k in (1, 2)]
    lines = tables.against_best({"one": one, "two": two}).splitlines()
    assert lines[2:] == [
        "| fedapm | 0 | −0.050 | −0.025 |",
        "| local | −0.400* | 0 | −0.200 |",
        "| ditto |  | −0.450* | −0.450 |",
    ]


def test_every_fifth_client_is_held_out_with_the_samples_it_brings():
    client = np.repeat(np.arange(11), 10)
    split = np.tile([data.TRAIN] * 6 + [data.TEST] * 3 + [data.VAL], 11)
    arrays = {"client": client, "split": split, "x_row": np.arange(110)}
    seen = held_out.parts_of(arrays, None)
    assert set(seen["client"]) == set(range(11)) - {4, 9}
    before: set[int] = set()
    for samples, expected in ((0, 1), (2, 2), (5, 5), (30, 6)):
        new = held_out.parts_of(arrays, samples)
        assert set(new["client"]) == {4, 9}
        for name in (4, 9):
            own = new["split"][new["client"] == name]
            assert (own == data.TRAIN).sum() == expected
            assert (own == data.TEST).sum() == 3
        rows = set(new["x_row"][new["split"] == data.TRAIN].tolist())
        assert before <= rows  # more samples are those of before, and others
        before = rows


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_step_size(method):
    """By Adam they are all alike, if not all by an option of that name."""
    values = {"data": "somewhere", "model": "mlp", "algorithm": method}
    found = held_out.step_size(validate(values, "test").algorithm)
    plain = method == "iceadmm"  # by SGD
    assert found == pytest.approx(0.03 if plain else 0.008)


def test_held_out_clients_need_data_and_settings(tmp_path, monkeypatch, capsys):
    words = [str(tmp_path), "--out", str(tmp_path / "out"), "--to", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["held_out", *words, "--sets", "hapt"])
    with pytest.raises(SystemExit):
        held_out.main()
    assert f"{tmp_path / 'raw' / 'hapt.npz'} does not exist" in capsys.readouterr().err
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "hapt.npz").touch()
    with pytest.raises(SystemExit):
        held_out.main()
    assert "fedapm.yaml does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("split", "blocks"),
    [({"personal": ["*bias*"]}, ("personal", "all")), ({"personal": []}, ("all",))],
)
def test_a_new_client_starts_from_what_training_left(toy, tmp_path, split, blocks):
    values = experiment(
        toy["features"], algorithm={"name": "fedsim"} | FEDSIM, rounds=2, split=split
    )
    setting = validate(values, "test").plain()
    left = held_out.trained(setting, toy["features"], 100, tmp_path)
    assert left.blocks == blocks
    run = tmp_path / "seen-100"
    count = len(Run.load(run).clients)
    models = [load_client_model(run, k).state_dict() for k in range(count)]
    start = read_tensors(left.start)
    assert start.keys() == models[0].keys()
    for name, value in start.items():
        mean = sum(one[name].double() for one in models) / count
        assert torch.allclose(value.double(), mean, atol=1e-6)
    # Before any round, and without fitting: the model of the file, on the test parts.
    before = held_out.accuracy(left, toy["features"], "test", 100, ("all", 0), tmp_path)
    after = held_out.accuracy(
        left, toy["features"], "test", 100, (blocks[0], 30), tmp_path
    )
    first = Run.load(tmp_path / f"{toy['features'].name}-test-100-all-0").records[0]
    assert before == (first["accuracy"], first["accuracy_worst_decile"])
    assert after != before


def failed(method, seed):
    return made_up(method, seed, "", "", "")


def test_runs_that_all_failed_are_level_and_have_no_figures():
    rows = [failed(name, seed) for name in ("fedapm", "local") for seed in (1, 2)]
    rows += [made_up("ditto", seed, "0.5", "4:0.5") for seed in (1, 2)]
    lines = tables.table(rows).splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines[2:]}
    assert cells["local"][1:3] == ["–", "level (+0.000 to +0.000)"]
    assert "nan" not in "".join(lines)
    assert "| local | = = = |" in tables.summary({"made-up": rows})


def test_one_seed_has_no_spread_and_no_band():
    row = made_up("local", 1, "0.6", "4:0.6")
    one = tables.Method("local", [row])
    assert one.text("accuracy") == "0.600"
    text, inside = compare(row, one, dict(row.values))
    assert inside
    assert "none, of fewer than two seeds" in text


def test_a_replicate_that_failed_leaves_the_band_as_it_is():
    rows = [made_up("local", seed, f"0.{seed}", "4:0.6") for seed in (5, 6, 7)]
    again = failed("local", 5)._replace(final=Final(5, 1))
    assert band(tables.Method("local", [*rows, again])) == pytest.approx(
        band(tables.Method("local", rows))
    )


@pytest.mark.parametrize(
    ("module", "words", "expected"),
    [
        (tables, ["FOLDER"], "has no table of runs"),
        (results, ["FOLDER", "--to", "FOLDER/to"], "has no table whose methods"),
        (
            reproduce,
            ["watch-full", "local", "--data", "FOLDER", "--results", "FOLDER"],
            "does not exist; published are: none",
        ),
        (
            reproduce,
            ["watch-30", "lokal", "--data", "FOLDER", "--results", "FOLDER/some"],
            "has no row 'lokal'; it has local",
        ),
        (
            reproduce,
            ["watch-30", "local", "--data", "FOLDER", "--results", "FOLDER/some"],
            "local.yaml",
        ),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path, monkeypatch, capsys, module, words, expected
):
    runs = tmp_path / "some" / "runs"
    runs.mkdir(parents=True)
    with (runs / "watch-30.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, results.COLUMNS)
        writer.writeheader()
        row = made_up("local", 1, "0.6")
        writer.writerow(row.values | {"seed": "1", "replicate": "0"})
    words = [word.replace("FOLDER", str(tmp_path)) for word in words]
    monkeypatch.setattr("sys.argv", ["command", *words])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err
