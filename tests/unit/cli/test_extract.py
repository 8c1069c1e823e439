"""The command line of ``fedapm extract``."""

import pytest

import data_prep.feature_extraction
from fedapm_mpi.cli.main import main
from fedapm_mpi.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(data_prep.feature_extraction, "CHUNK", 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract"], "needs SOURCE, --from PATH, --to DIR"),
        (["extract", "crema_d", "--from", "x"], "extract needs --to DIR"),
        (["extract", "crema_e", "--from", "x", "--to", "y"], "did you mean 'crema-d'"),
        (
            ["extract", "crema_d", "--from", "x", "--to", "y", "weight=z"],
            "did you mean 'weights'",
        ),
        (
            ["extract", "crema_d", "--from", "x", "--to", "y", "video_frames=0"],
            "video_frames",
        ),
        (["extract", "crema_d", "again", "--from", "x", "--to", "y"], "key=value"),
    ],
)
def test_what_the_command_refuses(words, message, capsys):
    assert main(words) == ConfigError.exit_code
    assert message in capsys.readouterr().err
