"""Each client keeps as many training samples as asked; no other part changes."""

from collections import Counter
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.kept_labels import Keep, keep_labels
from data_prep.pipeline import plan
from fedapm_mpi.errors import ConfigError
from tests.support.preparation import everyone, prepare

NAMES = [f"client {i}" for i in range(9)]


@st.composite
def clients(draw):
    """Draw labels, and the training and test rows of some clients."""
    sizes = draw(st.lists(st.integers(4, 40), min_size=1, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.permutation(sum(sizes))
    parts = [np.sort(part) for part in np.split(rows, np.cumsum(sizes)[:-1])]
    labels = rng.integers(0, draw(st.integers(1, 4)), len(rows))
    return labels, {"train": [p[1:] for p in parts], "test": [p[:1] for p in parts]}


def kept(keep, splits, labels, seed=0, groups=None):
    left, _ = keep_labels(keep, splits, labels, groups, NAMES, seed)
    return left


@given(clients(), st.sampled_from([True, False]), st.integers(0, 5))
def test_clients_keep_the_number_and_the_shares(made, stratified, seed):
    labels, splits = made
    left = kept(Keep(per_client=2, stratified=stratified), splits, labels, seed)
    assert list(left) == ["train", "test"]
    for before, after in zip(splits["train"], left["train"], strict=True):
        assert len(after) == 2
        assert (np.diff(after) > 0).all()
        assert set(after.tolist()) <= set(before.tolist())
        shares = Counter(labels[before].tolist())
        for label, number in Counter(labels[after].tolist()).items():
            exact = 2 * shares[label] / len(before)
            assert not stratified or floor(exact) <= number <= ceil(exact)
    for before, after in zip(splits["test"], left["test"], strict=True):
        assert before is after


@given(clients(), st.sampled_from([0.1, 0.3, 0.7]))
def test_a_part_of_each_client_at_least_one(made, fraction):
    labels, splits = made
    left = kept(Keep(fraction=fraction), splits, labels)
    for before, after in zip(splits["train"], left["train"], strict=True):
        assert len(after) >= 1
        assert abs(len(after) - fraction * len(before)) <= 0.5 or len(after) == 1


@given(clients(), st.sampled_from([True, False]))
def test_a_draw_follows_from_seed_and_client(made, stratified):
    labels, splits = made
    keep = Keep(per_client=2, stratified=stratified)
    alone = {name: parts[:1] for name, parts in splits.items()}
    first = kept(keep, splits, labels)["train"][0]
    np.testing.assert_array_equal(first, kept(keep, alone, labels)["train"][0])


def test_clients_and_seeds_draw_for_themselves():
    labels = np.zeros(200, int)
    splits = {"train": [np.arange(100), np.arange(100, 200)], "test": []}
    keep = Keep(per_client=20)
    one, other = kept(keep, splits, labels)["train"]
    assert one.tolist() != (other - 100).tolist()
    assert one.tolist() != kept(keep, splits, labels, seed=1)["train"][0].tolist()


@pytest.mark.parametrize("stratified", [True, False])
def test_every_sample_is_equally_likely(stratified):
    labels = np.repeat([0, 1, 2], [1, 3, 16])
    splits = {"train": [np.arange(20)], "test": [np.arange(0)]}
    times = np.zeros(20)
    for seed in range(2000):
        keep = Keep(per_client=4, stratified=stratified)
        times[kept(keep, splits, labels, seed)["train"][0]] += 1
    # 4 of 20 in each of 2000 draws: 400 ± 5 standard deviations of 18.
    assert times.sum() == 4 * 2000
    assert (np.abs(times - 400) < 90).all()


def test_the_others_are_the_val_part():
    splits = {"train": [np.arange(10)], "test": [np.arange(10, 12)]}
    left = kept(Keep(per_client=4, rest="val"), splits, np.zeros(12, int))
    assert len(left["val"][0]) == 6
    assert sorted([*left["train"][0], *left["val"][0]]) == list(range(10))


def test_no_group_is_in_train_and_val():
    splits = {"train": [np.arange(12)], "test": [np.arange(12, 14)]}
    groups = np.arange(14) // 3
    keep = Keep(per_client=2, rest="val")
    left, note = keep_labels(keep, splits, np.zeros(14, int), groups, NAMES, 0)
    used = set(groups[left["train"][0]].tolist())
    expected = [row for row in range(12) if groups[row] not in used]
    assert left["val"][0].tolist() == expected
    assert f"but for {10 - len(expected)} of a group" in note
    with pytest.raises(ConfigError, match="no group may be in two parts"):
        keep_labels(keep, splits, np.zeros(14, int), 0 * groups, NAMES, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needs fraction or per_client, not both"),
        ({"fraction": 0.1, "per_client": 3}, "not both"),
        ({"fraction": 1.0}, "above 0 and below 1"),
        ({"per_client": 0}, "at least 1"),
        ({"per_clients": 3}, "per_client"),
        ({"per_client": 3, "rest": "test"}, "rest"),
        (9, r"needs keep\.fraction or keep\.per_client"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        plan("arrays", {"keep": values})


def test_what_cannot_be_kept_is_refused():
    labels, test = np.zeros(20, int), [np.arange(0)] * 3
    splits = {"train": [np.arange(9), np.arange(9, 13), np.arange(13, 20)],
              "test": test}  # fmt: skip
    message = r"client 1.* has 4 training samples, and 1 more client has .* at most 4"
    with pytest.raises(ConfigError, match=message):
        kept(Keep(per_client=8), splits, labels)
    few = {"train": [np.arange(2), np.arange(2, 4)], "test": test[:2]}
    with pytest.raises(ConfigError, match="leave nothing out"):
        kept(Keep(per_client=2), few, labels)
    with pytest.raises(ConfigError, match="has a val part already"):
        kept(Keep(per_client=2, rest="val"), {**splits, "val": test}, labels)


def test_prepared_data_with_few_labels(origin, tmp_path, capsys):
    whole = prepare("arrays", origin, tmp_path / "whole")
    manifest = prepare("arrays", origin, tmp_path / "few", "keep.fraction=0.25")
    assert "keep" not in whole.preparation
    assert manifest.preparation["keep"] == {
        "fraction": 0.25, "per_client": None, "stratified": True, "rest": "left-out",
    }  # fmt: skip
    assert manifest.counts["train"].tolist() == [4] * 6
    assert "24 of 96 training samples are kept, 4 of each" in capsys.readouterr().out
    before, after = everyone(whole), everyone(manifest)
    for client in range(6):
        np.testing.assert_array_equal(
            before["test"][client].labels, after["test"][client].labels
        )
        kept_ones = after["train"][client].inputs["number"].tolist()
        assert all(
            one in before["train"][client].inputs["number"].tolist()
            for one in kept_ones
        )


def test_shifts_see_only_what_is_kept(origin, tmp_path):
    words = ("keep.per_client=5", "shift=standardise")
    for arrays in everyone(prepare("arrays", origin, tmp_path / "to", *words))["train"]:
        number = arrays.inputs["number"].astype(np.float64)
        np.testing.assert_allclose(number.mean(), 0, atol=1e-6)
        # It is divided by the deviation, which is above 1 here, plus 1e-5.
        np.testing.assert_allclose(number.std(), 1, atol=1e-5)


def test_the_rest_can_be_validated_on(origin, tmp_path):
    words = ("keep.per_client=5", "keep.rest=val")
    manifest = prepare("arrays", origin, tmp_path / "to", *words)
    assert manifest.counts["val"].tolist() == [11] * 6
    assert manifest.counts["test"].tolist() == [4] * 6
