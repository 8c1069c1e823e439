"""What a study asks for, how it is refused, and how its points are run."""

import sys
import time

import pytest
import yaml

from fedapm_mpi.cli import main as cli
from fedapm_mpi.config import loader as configfile
from fedapm_mpi.config.overrides import expand_dotted
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.studies.scaling import runner as running
from fedapm_mpi.studies.scaling.points import lay_out, open_study
from fedapm_mpi.studies.scaling.study import load, put
from tests.support.scaling_study import laid_out, pretend, write_study

WIDTHS = {"client_ranks": 2, "key": "model.hidden", "values": [[8], [16]]}


def refused(tmp_path, toy, data="features", **changes):
    with pytest.raises(ConfigError) as caught:
        laid_out(tmp_path, toy[data], **changes)
    return str(caught.value)


def test_points_are_interleaved_and_named_by_what_they_are(tmp_path, toy):
    _, points = laid_out(tmp_path, toy["features"], size=WIDTHS)
    once = ["strong-1", "strong-2", "strong-4", "weak-1", "weak-2", "weak-4"]
    once += ["size-2-8", "size-2-16"]
    assert [p.name for p in points] == [f"{n}-{k}" for k in (0, 1) for n in once]
    assert [p.ranks for p in points[:3]] == [2, 3, 5]
    assert [p.config.clients for p in points[:6]] == [None] * 3 + [2, 4, 8]
    assert [p.config.model["hidden"] for p in points[6:8]] == [(8,), (16,)]
    for point in points:
        assert point.config.rounds == 5
        assert point.config.evaluation.every == 2
        assert point.run == tmp_path / "out" / "points" / point.name
        written = configfile.load(point.config_path)
        assert written.plain() == point.config.plain()
        assert str(point.config_path) in point.words


def test_the_resolved_study_needs_no_other_file(tmp_path, toy):
    study, points = laid_out(tmp_path, toy["features"])
    (tmp_path / "train.yaml").unlink()
    again, same = open_study(tmp_path / "out")
    assert again.plain() == study.plain()
    assert [p.name for p in same] == [p.name for p in points]
    assert lay_out(load(tmp_path / "out" / "study.yaml"), tmp_path / "out") == points


def test_the_experiment_may_stand_in_the_study(tmp_path, toy):
    path = write_study(tmp_path, toy["features"])
    values = yaml.safe_load(path.read_text())
    values["config"] = yaml.safe_load((tmp_path / "train.yaml").read_text())
    path.write_text(yaml.safe_dump(values))
    assert load(path).config["rounds"] == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stronk": {}}, "stronk: unknown key; did you mean 'strong'?"),
        ({"weak": {"client_ranks": [1], "clients": 2}}, "weak.clients: unknown key"),
        ({"strong": None, "weak": None}, "at least one of strong, weak, size"),
        ({"strong": {"client_ranks": []}}, "client_ranks is empty"),
        ({"strong": {"client_ranks": [2, 2]}}, "client_ranks has a value twice"),
        ({"strong": {"client_ranks": [0]}}, "strong.client_ranks[0]"),
        ({"size": WIDTHS | {"values": [[8], [8]]}}, "values has a value twice"),
        ({"size": WIDTHS | {"key": "model.hiden"}}, "did you mean 'hidden'?"),
        ({"overrides": {"round": 5}}, "round: unknown key; did you mean 'rounds'?"),
        (
            {"warmup_rounds": 5},
            "warmup_rounds: 5 leaves none of the 5 rounds of strong-1",
        ),
        ({"repetitions": 0}, "repetitions"),
        ({"strong": {"client_ranks": [9]}}, "strong-9: 9 client ranks for 8 clients"),
        (
            {"weak": {"client_ranks": [1, 5], "clients_per_rank": 2}},
            "weak-5: clients is 10, but the data set has only 8",
        ),
        ({"config": "nothing.yaml"}, "cannot read the configuration"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(tmp_path, toy, changes, words):
    assert words in refused(tmp_path, toy, **changes)
    assert not (tmp_path / "out").exists()


def test_another_study_in_the_same_folder_is_refused(tmp_path, toy):
    laid_out(tmp_path, toy["features"])
    told = refused(tmp_path, toy, repetitions=3, warmup_rounds=2)
    assert "holds another study; give another folder by --out:" in told
    assert told.endswith("\n  repetitions: 2 -> 3\n  warmup_rounds: 1 -> 2")


def test_a_folder_with_other_things_is_refused(tmp_path, toy):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").touch()
    assert "is not empty and holds no study" in refused(tmp_path, toy)


def test_data_that_are_not_there_are_told_of_with_the_point(tmp_path, toy):
    with pytest.raises(DataError, match=r"^strong-1: .*fedapm prepare"):
        laid_out(tmp_path, tmp_path / "no data")


def test_a_folder_without_a_study_is_named(tmp_path, capsys):
    for part in (["report"], ["model"], ["simulate"]):
        words = ["scale", *part, str(tmp_path)]
        words += [str(tmp_path / "p.yaml")] if part == ["simulate"] else []
        if part == ["simulate"]:
            (tmp_path / "p.yaml").write_text(
                "{nodes: 1, ranks_per_node: 2, latency_us: 1, bandwidth_GBps: 1}"
            )
        assert cli.main(words) == 2
        assert "holds no study" in capsys.readouterr().err


def test_trees_of_values():
    values = {"a.b": 1, "a": {"c.d": 2}}
    assert expand_dotted(values, deep=True) == {"a": {"b": 1, "c": {"d": 2}}}
    assert put({"a": {"b": 1, "c": 2}}, "a.b", 3) == {"a": {"b": 3, "c": 2}}
    assert put({}, "a.b", 3) == {"a": {"b": 3}}


def test_values_that_make_no_name_are_numbered(tmp_path, toy):
    models = [{"name": "mlp", "hidden": [8] * 20}, {"name": "mlp", "hidden": [9] * 20}]
    size = {"client_ranks": 1, "key": "model", "values": models}
    _, points = laid_out(tmp_path, toy["features"], size=size, strong=None, weak=None)
    assert [p.case for p in points[:2]] == ["size-1-value0", "size-1-value1"]


@pytest.fixture
def pretended(tmp_path, toy, monkeypatch):
    """Two points whose runs are little programs: a function that runs them."""
    study, points = laid_out(
        tmp_path, toy["features"], weak=None, strong={"client_ranks": [1]}
    )

    def run(program):
        code = "import os, sys, pathlib, time\nrun = pathlib.Path(sys.argv[1])\n"
        code += "done = lambda: ((run / 'final').mkdir(parents=True), "
        code += "(run / 'final' / 'digest.txt').touch())\n" + program

        def command(study, ranks, words):
            run = words[3] if words else ""
            return [sys.executable, "-c", code, run]

        monkeypatch.setattr(running, "_command", command)
        running.run_points(study, points)

    run.points = points
    return run


def test_points_are_run_once_and_a_begun_one_starts_afresh(pretended, capsys):
    first, second = pretended.points
    pretend(first)
    second.run.mkdir(parents=True)
    (second.run / "old").touch()
    pretended("assert not run.exists(); done(); print('hello')")
    assert capsys.readouterr().out.splitlines()[0].endswith("finished before")
    assert second.log.read_text() == "hello\n"
    assert not first.log.exists()
    assert not (second.run / "old").exists()


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("print('fedapm: error: no room'); sys.exit(3)", 3, r"failed \(no room\); see"),
        ("os.kill(os.getpid(), 9)", 70, "strong-1-0 failed; see"),
        ("pass", 70, "strong-1-0 failed; see"),
        ("sys.exit(75)", 75, "stopped in strong-1-0"),
    ],
)
def test_a_point_that_fails_ends_the_study_with_its_code(
    pretended, program, code, words
):
    with pytest.raises(running.PointError, match=words) as caught:
        pretended(program)
    assert caught.value.exit_code == code
    assert not pretended.points[1].log.exists()


def test_a_wish_to_stop_is_passed_on(pretended):
    program = "import signal\n"
    program += "signal.signal(signal.SIGTERM, lambda *a: sys.exit(75))\n"
    program += "os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)"
    begin = time.monotonic()
    with pytest.raises(running.PointError, match="stopped in strong-1-0") as caught:
        pretended(program)
    assert caught.value.exit_code == 75
    assert time.monotonic() - begin < 30
