"""The command line of ``fedapm doctor``: what is refused, and what is looked at."""

import pytest

from fedapm_mpi.cli import doctor
from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.errors import ConfigError


def read(words):
    parser = Parser()
    doctor.COMMAND.add_arguments(parser)
    return doctor.COMMAND.read(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--timeout", "0"], "--timeout must be above 0, not 0"),
        (["--size", "-1"], "--size must be above 0, not -1"),
        (["a.yaml", "b.yaml"], "name one CONFIG at most, not a.yaml and b.yaml"),
        (["rounds=3"], "rounds=3 replaces a value of a CONFIG, but there is none"),
        (["nowhere"], "nowhere is neither a CONFIG nor a directory of data"),
        (["--run-dir", "nowhere"], "--run-dir: nowhere is not a folder"),
    ],
)
def test_mistakes_on_the_command_line(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=expected):
        read(words)


def test_the_folder_of_runs_is_looked_at_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read([]).folder == tmp_path
    (tmp_path / "runs").mkdir()
    assert read([]).folder == tmp_path / "runs"


@pytest.mark.parametrize(
    ("words", "seconds"),
    [([], 60), (["--timeout", "3", "x"], 3), (["--timeout", "x"], 60)],
)
def test_every_rank_reads_the_timeout_for_itself(words, seconds):
    assert doctor.read_timeout(words) == seconds
