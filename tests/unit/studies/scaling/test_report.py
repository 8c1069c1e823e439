"""Figures of a scaling study against closed forms, and what a report says."""

import csv
from hashlib import sha256

import numpy as np
import pytest
from scipy.stats import t as student

from fedapm_mpi.cli import main as cli
from fedapm_mpi.studies.scaling import speedup
from fedapm_mpi.studies.scaling.measurements import read_points
from fedapm_mpi.studies.scaling.speedup import band, t_quantile
from fedapm_mpi.studies.scaling.summary import differing, rows_of
from tests.support.scaling_study import laid_out, pretend


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30])
def test_quantiles_of_students_t(freedom):
    for level in (0.5, 0.95, 0.99):
        exact = student.ppf(0.5 + level / 2, freedom)
        assert t_quantile(freedom, level) == pytest.approx(exact, rel=1e-9)


def test_a_band_is_that_of_students_t():
    values = [1.0, 2.0, 4.0]
    low, high = student.interval(
        0.95, 2, np.mean(values), np.std(values, ddof=1) / 3**0.5
    )
    assert band(values) == pytest.approx((7 / 3, low, high))
    alone = band([3.0])
    assert alone.mean == 3
    assert np.isnan([alone.low, alone.high]).all()


@pytest.mark.parametrize("serial", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("ranks", [(1, 2, 16), (2, 4, 8)])
def test_amdahls_law_gives_its_serial_fraction(serial, ranks):
    """With a least of p0 ranks, what is serial there is a larger part of all."""
    times = {p: dict.fromkeys(range(3), serial + (1 - serial) / p) for p in ranks}
    there = serial / times[ranks[0]][0]
    for p, found in speedup.strong(times).items():
        gain = ranks[0] * times[ranks[0]][0] / times[p][0]
        assert found.speed_up == pytest.approx((gain, gain, gain))
        assert found.efficiency.mean == pytest.approx(gain / p)
        if p > ranks[0]:
            assert found.serial == pytest.approx(there, abs=1e-12)


def test_ratios_are_taken_within_a_repetition():
    """A machine that is slow for a whole repetition widens no band."""
    times = {1: {0: 1.0, 1: 2.0}, 4: {0: 0.5, 1: 1.0}}
    assert speedup.strong(times)[4].speed_up == pytest.approx((2, 2, 2))
    assert speedup.weak(times)[4].efficiency == pytest.approx((2, 2, 2))


def test_a_repetition_without_its_base_is_left_out():
    times = {1: {0: 1.0}, 4: {0: 0.5, 1: 9.0}}
    assert speedup.strong(times)[4].speed_up.mean == 2


@pytest.fixture
def study(tmp_path, toy):
    """A study whose points took 0.4 s on one rank, and half of it on twice as many."""
    study, points = laid_out(tmp_path, toy["features"])
    for point in points:
        ideal = 0.4 / point.client_ranks if point.kind == "strong" else 0.1
        clients = point.config.clients or 8
        digest = sha256(point.kind.encode()).hexdigest()
        pretend(point, ideal * (1 + point.repetition), digest, clients)
    return study, points


def test_phases_and_idle_time_add_up_to_the_round(study):
    measured, missing = read_points(study[1], 1)
    assert not missing
    one = measured[0]
    assert one.rounds.tolist() == [1, 2, 3, 4]  # the fifth is the last, 1 is warm-up
    assert one.seconds == pytest.approx(0.4)
    expected = {"broadcast": 0.04, "work": 0.16, "imbalance": 0.04, "idle": 0.152}
    for name, value in expected.items():
        assert one.median(name) == pytest.approx(value), name
    assert one.evaluations.tolist() == pytest.approx([0.4, 0.4])
    four = next(m for m in measured if m.client_ranks == 4)
    assert four.oversubscription == pytest.approx(4 / 3 - 1)  # on three cores
    assert one.oversubscription == 0
    assert one.evaluated.tolist() == [1, 3]


def test_a_report_says_what_was_measured(study, tmp_path, capsys):
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "digests agree over all rank counts and repetitions" in told
    assert "4.00 ± 0.00" in told
    assert "4 client ranks had fewer cores than ranks" in told
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
    told = capsys.readouterr().out
    assert "the strong study ended with different digests: " in told
    assert f"eeeeeeeeeeee ({point.name})" in told.replace("\n", "")
    assert "digests agree" not in told


def test_points_of_other_work_may_differ_but_not_their_repetitions(study):
    _, points = study
    weak = [p for p in points if p.kind == "weak"]
    (weak[0].run / "final" / "digest.txt").write_text("1" * 64)
    (weak[3].run / "final" / "digest.txt").write_text("1" * 64)
    assert weak[0].case == weak[3].case
    assert not differing(read_points(points, 1)[0])
    (weak[3].run / "final" / "digest.txt").write_text("2" * 64)
    (told,) = differing(read_points(points, 1)[0])
    assert told.startswith("weak-1 ended with different digests")


def test_what_is_not_finished_is_named_and_left_out(study, tmp_path, capsys):
    _, points = study
    for point in points[1:]:
        (point.run / "final" / "digest.txt").unlink()
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "not finished, and left out: strong-2-0, strong-4-0" in told
    assert "a single repetition gives no confidence band" in told
    (row,) = rows_of(read_points(points, 1)[0])
    assert (row.kind, row.repetitions) == ("strong", 1)
    (points[0].run / "final" / "digest.txt").unlink()
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 3
    assert "no point is finished yet" in capsys.readouterr().err


def test_a_run_that_was_edited_is_named(study, tmp_path, capsys):
    (study[1][0].run / "provenance.json").write_text("{")
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 3
    assert "provenance.json" in capsys.readouterr().err
    (study[1][0].run / "rounds.jsonl").write_text("")
    assert cli.main(["scale", "report", str(tmp_path / "out")]) == 3
    assert "no round with a wall time" in capsys.readouterr().err
