"""Studies from their first trial to the last, and their reports."""

import csv
import json
from fractions import Fraction

import pytest
import yaml

from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError, DataError, TrainingError
from fedapm_mpi.studies.tune.record import Failure, read_trials
from fedapm_mpi.studies.tune.report import state_of, write_report
from fedapm_mpi.studies.tune.study import Study, StudyError, chosen_metric
from fedapm_mpi.studies.tune.trials import Ended
from tests.support.tuning import request, settle_all, values_of, write_data


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_trial_has_the_same_budget(whole):
    study, runs, _, _ = whole
    assert study.passes == 12  # six rounds of two epochs
    found = rows(study.out / "trials.csv")
    assert len(found) == 8
    for row in found:
        each = 2 * int(row["algorithm.joint_work"] or 2)
        assert 12 - each < float(row["passes"]) <= 12
    complete = [row for row in found if row["state"] == "complete"]
    assert len(complete) == 4  # half of each generation
    assert runs == 12
    last = max(float(row["accuracy_at_1"]) for row in complete)
    assert study.best().results[-1].value == last


def test_a_study_that_was_stopped_has_the_same_table(whole, data, tmp_path):
    study, runs, _, _ = whole
    out = tmp_path / "out"
    reverse = [None, lambda todo: todo.reverse()]
    for k, stop in enumerate((1, 5, 2, None)):
        again = Study(request(data, out))
        settle_all(again, stop, reverse[k % 2] or (lambda todo: None))
    write_report(again)
    for name in ("trials.csv", "best.yaml"):
        assert (out / name).read_bytes() == (study.out / name).read_bytes()
    assert read_trials(out) == again.trials
    assert runs > 8


def test_the_first_trial_is_the_configuration_as_it_is(whole):
    study = whole[0]
    first = study.values_of(study.trials[0])
    assert first["algorithm"] == study.base["algorithm"]
    assert first["rounds"] == 6
    assert first["optimizer"] is None
    assert sorted(first["split"]["personal"]) == ["head.bias", "head.weight"]


def test_another_study_in_the_same_folder_is_refused(whole, data):
    study = whole[0]
    with pytest.raises(ConfigError, match="holds another study"):
        Study(request(data, study.out, seed=4))


def test_a_trial_that_diverges_is_the_worst(data, tmp_path):
    """A step size of 1e30 or 0.1; other trials go on."""
    space = {
        "optimizer": None, "algorithm.lr_shared": [1e30, 0.1], "split": "biases",
        "evaluation.fine_tune": None,
    }  # fmt: skip
    study = Study(request(data, tmp_path / "out", space=space, trials=4))
    settle_all(study)
    failed = [one for one in study.trials if one.failure]
    assert failed
    assert {one.params["algorithm.lr_shared"] for one in failed} == {"1e+30"}
    write_report(study)
    for row in rows(study.out / "trials.csv"):
        assert (row["state"] == "failed") == (row["algorithm.lr_shared"] == "1e+30")
        assert bool(row["reason"]) == (row["state"] == "failed")
    assert f"and {len(failed)} failed" in (study.out / "tune.md").read_text()
    assert study.best().params["algorithm.lr_shared"] == "0.1"


def test_a_failure_of_all_trials_ends_the_study(data, tmp_path):
    space = {"optimizer": None, "algorithm.lr_shared": 1e30}
    study = Study(request(data, tmp_path / "out", space=space))
    with pytest.raises(StudyError, match="none of the first 4 trials") as error:
        settle_all(study)
    assert error.value.exit_code == TrainingError.exit_code
    # Once its cause is corrected the same command begins again.
    assert read_trials(tmp_path / "out") == []
    study = Study(request(data, tmp_path / "small", passes=0.5))
    with pytest.raises(StudyError, match="not enough for a round") as error:
        study.advance()
    assert error.value.exit_code == ConfigError.exit_code


def test_the_best_are_trained_with_further_seeds(data, tmp_path):
    """The study had none at first: repetitions come after it."""
    out = tmp_path / "out"
    small = {"trials": 4, "rungs": (Fraction(1),)}
    settle_all(Study(request(data, out, **small)))
    study = Study(request(data, out, **small, finalists=2, repeats=2))
    assert settle_all(study) == 4
    assert len(study.searched) == 4
    for one in study.trials[4:]:
        values = study.values_of(one)
        original = study.values_of(study.trials[one.repeats])
        assert values == {**original, "seed": original["seed"] + one.seed}
        assert yaml.safe_load((study.run_of(one) / "config.yaml").read_text())[
            "seed"
        ] == (1 + one.seed)
    best = study.best()
    own = [one for one in study.trials if best.number in (one.number, one.repeats)]
    mean = sum(one.results[-1].value for one in own) / 3
    closing, _ = write_report(study)
    assert f"accuracy {mean:.4f} (mean of 3 seeds) on validation parts" in closing
    assert yaml.safe_load((out / "best.yaml").read_text())["seed"] == 1
    found = rows(out / "trials.csv")
    assert [row["repeats"] for row in found[:4]] == [""] * 4
    assert [row["seed"] for row in found[4:]] == ["2", "3", "2", "3"]
    assert all(row["accuracy_at_1"] for row in found[4:])


def test_another_end_of_a_run_settles_nothing(data, tmp_path):
    study = Study(request(data, tmp_path / "out"))
    (one, rounds), *_ = study.advance()
    assert not study.settle(one, rounds, Ended(75))
    assert not study.settle(one, rounds, None)
    assert one.results == []
    study.fail(one, Failure("TrainingError", "lost", 70))
    assert read_trials(study.out)[0].failure.message == "lost"
    assert state_of(one) == "failed"


def test_the_layout_is_that_of_a_sweep(data, tmp_path):
    """A job array finds the configuration and the run of its element."""
    study = Study(request(data, tmp_path / "out"))
    todo = study.advance()
    names = (study.runs / "cells.txt").read_text().split()
    assert names == ["0000", "0001", "0002", "0003"]
    for one, rounds in todo:
        values = yaml.safe_load(study.config_of(one).read_text())
        assert values["rounds"] == rounds
        assert study.run_of(one) == study.runs / names[one.number]


def test_few_rounds_have_equal_rungs(data, tmp_path):
    fixed = {"algorithm.joint_work": {"epochs": 2}, "evaluation.fine_tune": None}
    rungs = (Fraction(1, 4), Fraction(1, 2), Fraction(1))
    study = Study(
        request(data, tmp_path / "o", passes=2, rungs=rungs, trials=4, space=fixed)
    )
    assert settle_all(study) == 4
    assert sum(one.complete for one in study.trials) == 1
    best = study.best()
    assert [one.rounds for one in best.results] == [1, 1, 1]


def test_data_without_validation_parts(tmp_path):
    data = write_data(tmp_path, val=0)
    with pytest.raises(DataError, match=r"fedapm prepare arrays .* val=0\.2"):
        Study(request(data, tmp_path / "out"))


def test_metrics(data):
    config, manifest = validate(values_of(data), "t"), read_manifest(data)
    assert chosen_metric(config, None, manifest) == ("accuracy", True)
    assert chosen_metric(config, "loss", manifest) == ("loss", False)
    name = "accuracy_worst_decile"
    assert chosen_metric(config, name, manifest) == (name, True)
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        chosen_metric(config, "acuracy", manifest)


def test_the_record_is_plain(whole):
    study = whole[0]
    lines = (study.out / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(8))
    then = json.loads((study.out / "study.json").read_text())
    assert then["passes"] == 12
    assert then["config"]["seed"] == 1


def test_the_first_generation_tries_every_split_in_what_is_configured(data, tmp_path):
    study = Study(request(data, tmp_path / "out", width=8, space={}))
    first = [one.params for one, _ in study.advance()]
    (split,) = [one for one in study.space if one.key == "split"]
    count = len(split.labels)
    assert {one["split"] for one in first[:count]} == set(split.labels)
    for one in first[1:count]:
        assert one | {"split": first[0]["split"]} == first[0]
