"""Progress on the terminal, which can be left out."""

from tests.support.user_loggers import run


def test_progress_can_be_left_out(toy, tmp_path, capsys):
    assert run(toy, tmp_path / "run", loggers=["jsonl"]) == 0
    printed = capsys.readouterr().out
    assert "round 1/3" not in printed
    assert "digest " in printed
