"""What the summary of a study compares."""

from fedapm_mpi.studies.scaling.measurements import read_points
from fedapm_mpi.studies.scaling.summary import differing


def test_points_of_other_work_may_differ_but_not_their_repetitions(study):
    _, points = study
    weak = [p for p in points if p.kind == "weak"]
    (weak[0].run / "final" / "digest.txt").write_text("1" * 64)
    (weak[3].run / "final" / "digest.txt").write_text("1" * 64)
    assert weak[0].case == weak[3].case
    assert not differing(read_points(points, 1)[0])
    (weak[3].run / "final" / "digest.txt").write_text("2" * 64)
    (reported,) = differing(read_points(points, 1)[0])
    assert reported.startswith("weak-1 ended with different digests")
