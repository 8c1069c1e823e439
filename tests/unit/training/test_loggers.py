"""Which loggers a configuration may name, and what is refused."""

import pytest

from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from tests.support.processes.cli_runs import experiment
from tests.support.user_loggers import run


def test_what_is_no_logger_is_refused(toy, tmp_path, file):
    with pytest.raises(ConfigError, match="returned list; it must be, or return, a Me"):
        run(toy, tmp_path / "run", f"{file}:nothing")
    with pytest.raises(ConfigError, match="keys"):
        run(toy, tmp_path / "run", f"{file}:Csv")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "jsonl cannot be left out"),
        (["progress"], "jsonl cannot be left out"),
        (["jsonl", "jsonl"], "'jsonl' is named twice"),
        (["jsonl", "progres"], "did you mean 'progress'"),
        (["jsonl", {}], r"loggers\[1\]: needs a name"),
        ([{"name": "jsonl", "file": "x"}], "file"),
        ("jsonl", "loggers"),
    ],
)
def test_loggers_that_cannot_be(toy, given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        validate(experiment(toy["features"], loggers=given), "test")
