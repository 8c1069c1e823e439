"""LM by layer of runs: tables, figures, and runs without."""

import json
import sys

import pytest

from fedapm_mpi.analysis.comparison import read_runs
from fedapm_mpi.analysis.layer_tests import (
    describe,
    draw_layers,
    draw_layers_to,
    last_test,
    layer_rows,
)
from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import ConfigError
from tests.support.data.written_runs import write_run

TESTS = {
    1: {"body.weight": 3.5, "body.bias": 2.0, "head.weight": 9.0},
    2: {"body.weight": 1.25, "body.bias": 2.0, "head.weight": 1.5},
}


def write_tests(path, tests=TESTS, **options):
    """Return a run whose records hold a multiplier test after some rounds."""
    run = write_run(path, **options)
    records = [json.loads(x) for x in (run / "rounds.jsonl").read_text().splitlines()]
    for record in records:
        if record["round"] in tests:
            record["multiplier"] = tests[record["round"]]
    lines = [json.dumps(record) + "\n" for record in records]
    (run / "rounds.jsonl").write_text("".join(lines))
    (run / "split.csv").write_text(
        "name,shape,size,block,clients\n"
        'body.weight,"(4, 3)",12,shared,4\nbody.bias,"(4,)",4,shared,4\n'
    )
    return run


@pytest.fixture(autouse=True)
def _outside_a_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def test_the_last_test_counts(tmp_path):
    (run,) = read_runs([write_tests(tmp_path / "run")])
    assert last_test(run) == (2, TESTS[2])
    assert layer_rows([run]) == [
        ["body.weight", 12, 1.25], ["body.bias", 4, 2.0], ["head.weight", None, 1.5],
    ]  # fmt: skip
    assert describe([run]) == [
        f"{run.label}: after round 2, 1 of 3 shared layers have LM of 2 or more"
    ]


def test_runs_stand_side_by_side(tmp_path):
    one = write_tests(tmp_path / "a")
    two = write_tests(tmp_path / "b", {3: {"head.weight": 0.5, "new": 4.0}})
    rows = layer_rows(read_runs([one, two]))
    assert rows == [
        ["body.weight", 12, 1.25, None],
        ["body.bias", 4, 2.0, None],
        ["head.weight", None, 1.5, 0.5],
        ["new", None, None, 4.0],
    ]


def test_a_run_without_a_test_has_none(tmp_path, capsys):
    path = write_run(tmp_path / "run")
    assert last_test(read_runs([path])[0]) is None
    assert cli.main(["inspect", str(path)]) == 3
    assert "is not a finished data set" in capsys.readouterr().err
    assert cli.main(["report", str(path)]) == 0
    assert not (path / "report" / "multiplier.png").exists()
    assert "LM" not in capsys.readouterr().out


def test_report_shows_and_draws_the_tests(tmp_path, capsys):
    one = write_tests(tmp_path / "a")
    two = write_run(tmp_path / "b", algorithm="local")
    assert cli.main(["report", str(one), str(two)]) == 0
    printed = capsys.readouterr().out
    assert "1 of 3 shared layers" in printed
    drawn = (one / "report" / "multiplier.svg").read_text()
    assert "head.weight" in drawn
    assert (one / "report" / "multiplier.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_shows_the_test_of_a_run(tmp_path, capsys):
    run = write_tests(tmp_path / "run")
    file = tmp_path / "layers.svg"
    assert cli.main(["inspect", str(run), "--plot", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "body.weight" in printed
    assert f"plotted in {file}" in printed
    assert "head.weight" in file.read_text()


def test_a_damaged_table_of_parameters_leaves_sizes_out(tmp_path):
    run = write_tests(tmp_path / "run")
    (run / "split.csv").write_text("name\nbody.weight\n")
    assert [row[1] for row in layer_rows(read_runs([run]))] == [None] * 3


def test_a_record_whose_test_holds_no_numbers_is_left_out(tmp_path):
    run = write_tests(tmp_path / "run", {2: {"a": "many"}})
    (read,) = read_runs([run])
    assert [record["round"] for record in read.records] == [0, 1, 3]


@pytest.mark.parametrize("largest", [3.0, 300.0])
def test_figures_are_the_same_bytes_for_the_same_tests(tmp_path, largest):
    tests = {"one": {"a$b": 1.0, "c": largest}, "two": {"c": 0.5, "d": 0.0}}
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        draw_layers(tests, tmp_path / name / "multiplier")
    for file in (tmp_path / "x").iterdir():
        assert file.read_bytes() == (tmp_path / "y" / file.name).read_bytes()


def test_the_suffix_says_the_kind_of_figure(tmp_path):
    draw_layers_to({"": {"a": 1.0}}, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ConfigError, match="name it so"):
        draw_layers_to({"": {"a": 1.0}}, tmp_path / "a.txt")


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="pip install"):
        draw_layers({"": {"a": 1.0}}, tmp_path / "a")
