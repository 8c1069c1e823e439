"""What is read of a point's run: phases and idle time."""

import pytest

from fedapm_mpi.studies.scaling.measurements import read_points


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
