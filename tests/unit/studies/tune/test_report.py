"""What a study leaves: the chosen configuration, tables, a figure, and its cost."""

from fedapm_mpi.config.loader import load
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune.report import cost_of, write_report
from tests.support.tuning import trial


def test_what_was_chosen_can_be_trained_at_once(whole):
    study, _, closing, _ = whole
    config = load(study.out / "best.yaml")
    assert config.evaluation.split == "test"
    best = study.best()
    assert config.rounds == best.rounds
    assert f"trial {best.number} of 8 is the best: accuracy" in closing
    assert "passes over the training data" in closing


def test_the_report_says_what_mattered_and_what_it_cost(whole):
    study, _, _, notes = whole
    text = (study.out / "tune.md").read_text()
    assert notes == []
    for heading in ("## The best trials", "## What mattered", "## Cost"):
        assert heading in text
    assert (study.out / "tune.png").read_bytes().startswith(b"\x89PNG")
    spent = cost_of(study.trials)
    done = sum(one.rounds_done for one in study.trials)
    assert spent.rounds == done
    assert spent.passes <= 8 * 12
    assert spent.seconds > 0


def test_without_matplotlib_the_rest_is_written(whole, monkeypatch):
    study = whole[0]

    def missing():
        raise ConfigError("figures need matplotlib")

    monkeypatch.setattr("fedapm_mpi.studies.tune.report.pyplot", missing)
    _, notes = write_report(study)
    assert notes == ["no tune.png: figures need matplotlib"]


def test_costs():
    one = trial(0, 0.5, 0.5, passes=8.0)  # four of eight rounds
    other = trial(1, 0.5, passes=8.0)
    spent = cost_of([one, other])
    assert (spent.passes, spent.rounds) == (6, 6)
    assert spent.cpu_seconds is None
    assert "CPU" not in str(spent)
