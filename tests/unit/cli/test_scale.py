"""``fedapm scale report`` from end to end."""

from fedapm_mpi.cli import main as cli


def test_a_run_that_was_edited_is_named(study, tmp_path, capsys):
    (study[1][0].run / "provenance.json").write_text("{")
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 3
    assert "provenance.json" in capsys.readouterr().err
    (study[1][0].run / "rounds.jsonl").write_text("")
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 3
    assert "no round with a wall time" in capsys.readouterr().err
