"""The points of a study: their order and their names."""

from fedapm_mpi.config import loader as configfile
from tests.support.scaling_study import laid_out

WIDTHS = {"client_ranks": 2, "key": "model.hidden", "values": [[8], [16]]}


def test_points_are_interleaved_and_named_by_what_they_are(tmp_path, toy):
    _, points = laid_out(tmp_path, toy["features"], size=WIDTHS)
    once = ["strong-1", "strong-2", "strong-4", "weak-1", "weak-2", "weak-4"]
    once += ["size-2-8", "size-2-16"]
    assert [p.name for p in points] == [f"{n}-{k}" for k in (0, 1) for n in once]
    assert [p.ranks for p in points[:3]] == [2, 3, 5]
    assert [p.config.clients for p in points[:6]] == [None] * 3 + [2, 4, 8]
    assert [p.config.model["hidden"] for p in points[6:8]] == [(8,), (16,)]
    for point in points:
        assert point.config.rounds == 5
        assert point.config.evaluation.every == 2
        assert point.run == tmp_path / "out" / "points" / point.name
        written = configfile.load(point.config_path)
        assert written.plain() == point.config.plain()
        assert str(point.config_path) in point.words


def test_values_that_make_no_name_are_numbered(tmp_path, toy):
    models = [{"name": "mlp", "hidden": [8] * 20}, {"name": "mlp", "hidden": [9] * 20}]
    size = {"client_ranks": 1, "key": "model", "values": models}
    _, points = laid_out(tmp_path, toy["features"], size=size, strong=None, weak=None)
    assert [p.case for p in points[:2]] == ["size-1-value0", "size-1-value1"]
