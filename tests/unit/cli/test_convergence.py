"""The command that says how fast a run converges, on records written by hand."""

import json

import pytest

from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import ConfigError, DataError


@pytest.fixture
def run_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    records = [{"round": 0, "primal_residual": 0.0, "dual_residual": None}]
    for t in range(1, 81):
        record = {"round": t, "train_loss": 1 + 1 / (t + 2), "participants": "0-3"}
        record |= {"lyapunov": 5 + 0.8**t, "dual_residual": max(4 - t, 0)}
        if t % 2 == 0:
            record |= {"primal_residual": 0.9**t, "pooled": {"loss": 1.0}}
        records.append(record)
    lines = [json.dumps(record) + "\n" for record in records]
    (tmp_path / "rounds.jsonl").write_text("".join(lines))
    return tmp_path


def test_command_judges_the_residuals_and_the_lyapunov_function(run_directory, capsys):
    assert cli.main(["convergence", str(run_directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    primal, dual, lyapunov = lines[-3:]
    assert primal.startswith(
        "primal_residual linear: the gap is multiplied by 0.9 each"
    )
    assert "(40 points of rounds 2 to 80" in primal
    assert dual == "dual_residual finite: at its limit 0 from round 4"
    assert lyapunov.startswith("lyapunov linear: the gap is multiplied by 0.8 each")
    assert "limit 5)" in lyapunov
    assert any("primal_residual" in line and "2 to 80" in line for line in lines[:-3])


def test_command_judges_any_figure(run_directory, capsys):
    names = ["--metric", "train_loss", "--metric", "train_loss"]
    assert cli.main(["convergence", str(run_directory), *names]) == 0
    text = capsys.readouterr().out
    assert text.count("train_loss sublinear: the gap falls as (t+2)^-1") == 1
    assert "primal_residual" not in text


def test_command_refuses_what_it_cannot_judge(run_directory, tmp_path, capsys):
    for wrong in ("primal_residul", "round", "participants", "pooled"):
        assert cli.main(["convergence", str(run_directory), "--metric", wrong]) == 2
        assert f"--metric {wrong}: the records of" in capsys.readouterr().err
    assert cli.main(["convergence", str(run_directory), "--metric", "lyapunow"]) == 2
    assert "did you mean 'lyapunov'?" in capsys.readouterr().err
    path = tmp_path / "rounds.jsonl"
    for text, code in (
        ('{"round": 1, "train_loss": 1.0}\n', ConfigError.exit_code),
        ('{"round": 1}\n', DataError.exit_code),
        ('{"round": 1, "lyapunov": 1}\n' * 2, 0),  # one of them is left out
        ('{"lyapunov": 1}\n', DataError.exit_code),
        ("", DataError.exit_code),
    ):
        path.write_text(text)
        assert cli.main(["convergence", str(run_directory)]) == code
    path.unlink()
    assert cli.main(["convergence", str(run_directory)]) == DataError.exit_code
