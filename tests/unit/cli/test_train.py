"""The command line of ``fedapm train``."""

from pathlib import Path

import pytest

from fedapm_mpi.cli import train
from fedapm_mpi.cli.arguments import Parser, split_words
from fedapm_mpi.cli.main import main


@pytest.mark.parametrize(
    ("words", "resume", "config", "overrides"),
    [
        ("--resume", True, None, []),
        ("--resume run", "run", None, []),
        ("--resume=run", "run", None, []),
        ("--resume rounds=6", True, None, ["rounds=6"]),
        ("c.yaml --resume rounds=6", True, "c.yaml", ["rounds=6"]),
        ("c.yaml --resume a.b=x=y", True, "c.yaml", ["a.b=x=y"]),
        ("--resume c.yaml", True, "c.yaml", []),
        ("--resume other.yaml rounds=6", True, "other.yaml", ["rounds=6"]),
        ("--resume plain c.yaml", True, "c.yaml", ["plain"]),
        ("--resume runs/seed=1", "runs/seed=1", None, []),
        ("--resume --run-dir run rounds=6", True, None, ["rounds=6"]),
        ("rounds=6 --resume run c.yaml", "run", "c.yaml", ["rounds=6"]),
        ("--resume=seed=1 c.yaml", "seed=1", "c.yaml", []),
    ],
)
def test_a_value_is_never_taken_for_a_run(
    tmp_path, monkeypatch, words, resume, config, overrides
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("rounds: 1\n")
    (tmp_path / "plain").write_text("a file without an ending\n")
    (tmp_path / "rounds=6").mkdir()
    found = Parser()
    train.COMMAND.add_arguments(found)
    args = found.parse_args(words.split())
    assert args.resume == resume
    named, rest = split_words([args.config, *args.overrides])
    if "plain" in words:
        named, rest = rest[0], [named]
    assert (named, rest) == (config, overrides)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--run-dir", "file"], "--run-dir: file is not a folder; name another"),
        (["--run-dir", "file/x"], "--run-dir: file is not a folder; name another"),
        (["--out", "file"], "--out: file is not a folder; name another"),
        (["--run-dir", "x" * 300], "File name too long"),
    ],
)
def test_a_file_is_no_run_directory(flags, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["train", "c.yaml", *flags]) == 2
    found = capsys.readouterr().err
    assert expected in found
    assert "--resume" not in found
