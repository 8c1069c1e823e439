"""The command line of ``fedapm download``; nothing is fetched here."""

import pytest

import data_prep.download
from fedapm_mpi.cli.main import main


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
