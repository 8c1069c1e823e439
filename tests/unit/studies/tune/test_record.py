"""The record of a study: its files, and what is refused."""

import re

import pytest

from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.studies.tune.record import (
    Failure,
    begin_or_continue,
    read_trials,
    write_trials,
)
from tests.support.tuning import trial

STUDY = {"seed": 1, "space": [{"name": "x", "range": {"low": 0.1}}, {"name": "y"}]}


def test_trials_are_read_as_they_were_written(tmp_path):
    trials = [
        trial(0, 0.25, 0.5, params={"x": 0.1, "k": "a"}, personal=3, passes=2.5),
        trial(1, failure=Failure("TrainingError", "not\nfinite", 70), rungs=[]),
    ]
    assert read_trials(tmp_path) == []
    write_trials(tmp_path, trials)
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 2
    assert read_trials(tmp_path) == trials


@pytest.mark.parametrize("text", ["{", "[]\n", '{"number": 1}\n', "\x00"])
def test_a_damaged_record(tmp_path, text):
    (tmp_path / "trials.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"cannot read .*trials\.jsonl"):
        read_trials(tmp_path)


def test_another_study_is_refused(tmp_path):
    begin_or_continue(tmp_path / "out", STUDY)
    begin_or_continue(tmp_path / "out", STUDY)
    other = {"seed": 2, "space": [{"name": "x", "range": {"low": 0.2}}, {"name": "y"}]}
    with pytest.raises(ConfigError, match="holds another study") as error:
        begin_or_continue(tmp_path / "out", other)
    for text in ("seed: it was 1, and is now 2", "space[x].range.low: it was 0.1"):
        assert re.search(re.escape(text), str(error.value))


def test_states_of_a_trial():
    assert trial(3).name == "0003"
    assert (trial(0, 1, 1).rounds, trial(0, 1, 1).rounds_done) == (8, 4)
    assert not trial(0, 1, 1).complete
    assert trial(0, 1, 1, 1).complete
    assert not trial(0, rungs=[]).complete
