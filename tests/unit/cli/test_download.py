"""The command line of ``fedapm download``; nothing is fetched here."""

import pytest

import data_prep.download
from fedapm_mpi.cli import download as download_command
from fedapm_mpi.cli.main import main
from tests.support.preparation import command


@pytest.mark.parametrize("name", ["ku-har", "ku_har"])
def test_both_spellings_of_a_data_set(name, tmp_path, monkeypatch, capsys):
    asked = []

    def fetched(remote, directory, progress):
        asked.append(remote)
        progress(1, 2)
        return directory / "archive.zip"

    monkeypatch.setattr(data_prep.download, "download", fetched)
    assert main(["download", name, str(tmp_path)]) == 0
    assert len(asked) == 1
    out = capsys.readouterr().out
    assert f"next: fedapm prepare ku-har --from {tmp_path / 'archive.zip'}" in out


def test_an_unknown_data_set(tmp_path, capsys):
    assert main(["download", "ku", str(tmp_path)]) == 2
    assert "invalid choice: 'ku'" in capsys.readouterr().err


def test_download_command_of_what_pip_has(tmp_path, monkeypatch, capsys):
    from data_prep.sources import watch

    monkeypatch.setattr(watch, "fetch", lambda to: to / "watch.npy")
    assert command(download_command, "watch", tmp_path) == 0
    out = capsys.readouterr().out
    assert f"fedapm prepare watch --from {tmp_path / 'watch.npy'}" in out


def test_a_data_set_of_the_hub(tmp_path, monkeypatch, capsys):
    from data_prep import hub

    monkeypatch.setattr(hub, "fetch", lambda name, to: to / name.replace("/", "--"))
    assert main(["download", "hf:me/my_set", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"fedapm prepare hf --from {tmp_path / 'me--my_set'} --to DIR" in out
