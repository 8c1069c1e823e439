"""What a study asks for, how it is refused, and how its points are run."""

import pytest
import yaml

from fedapm_mpi.cli import main as cli
from fedapm_mpi.config.overrides import expand_dotted
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.studies.scaling.points import lay_out, open_study
from fedapm_mpi.studies.scaling.study import load, put
from tests.support.scaling_study import laid_out, write_study

WIDTHS = {"client_ranks": 2, "key": "model.hidden", "values": [[8], [16]]}


def refused(tmp_path, toy, data="features", **changes):
    with pytest.raises(ConfigError) as caught:
        laid_out(tmp_path, toy[data], **changes)
    return str(caught.value)


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
def test_a_mistake_is_reported_before_anything_is_written(
    tmp_path, toy, changes, words
):
    assert words in refused(tmp_path, toy, **changes)
    assert not (tmp_path / "out").exists()


def test_another_study_in_the_same_folder_is_refused(tmp_path, toy):
    laid_out(tmp_path, toy["features"])
    reported = refused(tmp_path, toy, repetitions=3, warmup_rounds=2)
    assert "holds another study; give another folder by --out:" in reported
    assert reported.endswith("\n  repetitions: 2 -> 3\n  warmup_rounds: 1 -> 2")


def test_a_folder_with_other_things_is_refused(tmp_path, toy):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").touch()
    assert "is not empty and holds no study" in refused(tmp_path, toy)


def test_missing_data_are_reported_with_the_point(tmp_path, toy):
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
    assert expand_dotted(values.items(), deep=True) == {"a": {"b": 1, "c": {"d": 2}}}
    assert put({"a": {"b": 1, "c": 2}}, "a.b", 3) == {"a": {"b": 3, "c": 2}}
    assert put({}, "a.b", 3) == {"a": {"b": 3}}
