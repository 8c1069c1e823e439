"""What the paper's data sets are made from, before they are given to clients."""

import hashlib

import numpy as np
import pytest

from benchmarks.paper import data
from data_prep.sources import watch

LENGTHS = (900, 1100, 1300, 700)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A file of four series of the watch, of two people."""
    rng = np.random.default_rng(0)
    stored = {
        "X": [rng.normal(size=(n, 6)) + np.arange(n)[:, None] / 100 for n in LENGTHS],
        "y": np.array([0, 1, 0, 1]),
        "y_labels": ["PEN", "ABD"],
        "subject": np.array([1, 1, 2, 2]),
        "side": np.zeros(4),
    }
    path = tmp_path / watch.FILE
    np.save(path, np.array(stored, dtype=object), allow_pickle=True)
    monkeypatch.setattr(watch, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_validation_windows_come_between_training_and_test_and_overlap_neither(raw):
    source = watch.watch(raw)
    found = data.cut_series(raw)
    groups, splits = source.groups, source.split
    lost = 0
    for group in np.unique(groups[splits == 0]):
        early = int((groups == group).sum())
        lost += 1
        assert early >= 3, "too short a series to tell anything"
    counts = np.bincount(found["split"], minlength=3)
    assert counts[1] == (splits == 1).sum()
    assert counts[0] + counts[2] + lost == (splits == 0).sum()
    assert counts[2] >= lost
    windows = found["x_acc"].astype(np.float64)
    for person in np.unique(found["client"]):
        rows = np.flatnonzero(found["client"] == person)
        for label in (0, 1):
            own = rows[found["y"][rows] == label]
            order = found["split"][own]
            # Stored in time: training, validation, test.
            assert order[order != 1].tolist() == sorted(order[order != 1].tolist())
            assert order.tolist().index(1) > max(np.flatnonzero(order == 2))
            train, val = (windows[own[order == kind]] for kind in (0, 2))
            # Half of a window is 64 samples; the noise makes every sample unique.
            assert not np.isin(train[-1].round(6), val[0].round(6)).all(axis=1).any()


def test_features_are_means_of_eight_parts_of_each_window(raw):
    source = watch.watch(raw)
    found = data.segment_means(raw)
    rows = np.arange(len(source.table.labels))
    acc, gyro = (c.fetch(rows).astype(np.float64) for c in source.table.columns)
    both = np.concatenate([acc, gyro], axis=2)
    assert found["x_features"].shape == (len(rows), 8 * 6)
    assert found["y"].tolist() == source.table.labels.tolist()
    column = found["x_features"][:, 2 * 6 + 4]
    means = both[:, 32:48, 4].mean(axis=1)
    expected = (means - means.mean()) / means.std()
    np.testing.assert_allclose(column, expected, rtol=0, atol=1e-5)
