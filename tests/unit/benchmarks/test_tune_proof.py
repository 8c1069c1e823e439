"""The table of pupils that `benchmarks.tune_proof` makes."""

import numpy as np

from benchmarks.tune_proof import CLASSES, NUMBERS, table


def test_the_pupils_of_one_grade(tmp_path):
    columns = ["sch", "gr", *NUMBERS, *CLASSES, "read", "math", "above_median"]
    rows = [
        ["1", "1", "5", "1980", *"aaaaaaab", "400", "500", "yes"],
        ["2", "1", "", "1979", *"aaaaaaac", "300", "400", "no"],
        ["2", "K", "9", "1981", *"bbbbbbbb", "300", "400", "no"],
        ["2", "1", "7", "1980", *"aaaaaaab", "1", "2", "no"],
    ]
    path = tmp_path / "star.csv"
    path.write_text("\n".join(",".join(row) for row in [columns, *rows]) + "\n")
    found = table(path)
    assert found["client"].tolist() == [1, 2, 2]
    assert found["y"].tolist() == ["yes", "no", "no"]
    # exp, whether it is missing, birthy, and the two values of the last class: neither
    # scores, nor columns that are the same for all.
    assert found["x_pupil"].shape == (3, 5)
    small = found["x_pupil"][:, [0, 1, 3, 4]]  # years have few digits left in float32
    assert np.allclose(small.mean(0), 0, atol=1e-6)
    assert np.allclose(small.std(0), 1, atol=1e-6)
    exp = found["x_pupil"][:, 0]
    assert exp[1] == np.float32(0)  # unknown: the mean
    assert exp[0] < 0 < exp[2]
