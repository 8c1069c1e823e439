"""Figures of a scaling study against closed forms, and what a report says."""

import csv

import pytest

from fedapm_mpi.cli import main as cli
from fedapm_mpi.studies.scaling.measurements import read_points
from fedapm_mpi.studies.scaling.summary import rows_of


def test_a_report_says_what_was_measured(study, tmp_path, capsys):
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "digests agree over all rank counts and repetitions" in printed
    assert "4.00 ± 0.00" in printed
    assert "4 client ranks had fewer cores than ranks" in printed
    with (tmp_path / "out" / "report" / "scaling.csv").open(newline="") as file:
        rows = {(r["kind"], r["client_ranks"]): r for r in csv.DictReader(file)}
    assert float(rows["strong", "4"]["speed_up"]) == pytest.approx(4)
    assert float(rows["strong", "4"]["karp_flatt"]) == pytest.approx(0, abs=1e-9)
    assert float(rows["weak", "4"]["efficiency"]) == pytest.approx(1)
    assert rows["weak", "2"]["karp_flatt"] == ""
    assert float(rows["strong", "1"]["work_s"]) == pytest.approx(0.16 * 1.5)
    for name in ("speed-up.png", "speed-up.svg", "phases.png", "phases.svg"):
        assert (tmp_path / "out" / "report" / name).stat().st_size > 1000


def test_digests_that_differ_are_an_error(study, tmp_path, capsys):
    point = study[1][1]
    (point.run / "final" / "digest.txt").write_text("e" * 64)
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 70
    printed = capsys.readouterr().out
    assert "the strong study ended with different digests: " in printed
    assert f"eeeeeeeeeeee ({point.name})" in printed.replace("\n", "")
    assert "digests agree" not in printed


def test_what_is_not_finished_is_named_and_left_out(study, tmp_path, capsys):
    _, points = study
    for point in points[1:]:
        (point.run / "final" / "digest.txt").unlink()
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "not finished, and left out: strong-2-0, strong-4-0" in printed
    assert "a single repetition gives no confidence band" in printed
    (row,) = rows_of(read_points(points, 1)[0])
    assert (row.kind, row.repetitions) == ("strong", 1)
    (points[0].run / "final" / "digest.txt").unlink()
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 3
    assert "no point is finished yet" in capsys.readouterr().err
