"""``fedapm download`` names the command that comes next."""

from fedapm_mpi.cli import download as download_command
from tests.support.preparation import command


def test_download_command_of_what_pip_has(tmp_path, monkeypatch, capsys):
    from data_prep.sources import watch

    monkeypatch.setattr(watch, "fetch", lambda to: to / "watch.npy")
    assert command(download_command, "watch", tmp_path) == 0
    out = capsys.readouterr().out
    assert f"fedapm prepare watch --from {tmp_path / 'watch.npy'}" in out
