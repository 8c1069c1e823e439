"""Progress on the terminal, which can be left out."""

from fedapm_mpi.tracking.loggers.progress import format_metrics
from tests.support.user_loggers import run


def test_progress_can_be_left_out(toy, tmp_path, capsys):
    assert run(toy, tmp_path / "run", loggers=["jsonl"]) == 0
    printed = capsys.readouterr().out
    assert "round 1/3" not in printed
    assert "digest " in printed


def test_a_line_has_the_headline_of_every_variant():
    record = {"round": 1, "loss": 0.5, "accuracy": 0.25, "accuracy_worst_decile": 0.0}
    assert format_metrics(record, "accuracy").endswith("worst decile 0.0000")
    record["before_fine_tuning"] = {"accuracy": 0.125}
    record["client_copy"] = {"accuracy": 0.75, "loss": 1.0}
    shown = format_metrics(record, "accuracy")
    assert shown.endswith("client copy 0.7500  before fine-tuning 0.1250")
    record["client_copy"]["accuracy"] = None  # of no client
    assert "client copy" not in format_metrics(record, "accuracy")
