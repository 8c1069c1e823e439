"""Targets as users have them, and the ranges that samples are counted by."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from data_prep.targets import counted, has_fractions
from fedapm_mpi.errors import DataError, FedAPMError
from tests.support.preparation import everyone, prepare

RNG = np.random.default_rng(0)


def saved(tmp_path, y, **more):
    x = RNG.normal(size=(len(y), 3)).astype(np.float32)
    path = tmp_path / "made.npz"
    np.savez(path, x_f=x, y=y, client=np.arange(len(y)) % 4, **more)
    return path


def test_tenths_of_real_targets_have_equal_numbers():
    found = counted(RNG.normal(size=1000), "real", "y")
    assert found.target.values.shape == (1000, 1)
    assert found.target.names == ("target",)
    assert len(found.ranges) == 10
    assert np.bincount(found.codes).tolist() == [100] * 10
    limits = [float(name.split()[-1]) for name in found.ranges]
    below = found.target.values[found.codes == 0]
    assert below.max() <= limits[0]


@pytest.mark.parametrize(
    ("values", "ranges"),
    [
        ([3.0, 3.0, 3.0], 1),
        ([1.0, 1.0, 2.0], 2),
        ([0.0, 1e-12, 2e-12, 1.0], 4),
        ([1.0, 1.0 + 2**-52, 1.0 + 2**-51], 3),
    ],
)
def test_ranges_of_few_or_near_values_have_names_of_their_own(values, ranges):
    found = counted(np.array(values), "real", "y")
    assert len(set(found.ranges)) == len(found.ranges) == ranges
    assert set(found.codes) <= set(range(ranges))


def test_values_are_stored_in_single_precision_where_that_is_exact():
    assert counted(np.array([1, 2, 3]), "real", "y").target.values.dtype == np.float32
    assert counted(np.array([0.1]), "real", "y").target.values.dtype == np.float64
    big = np.array([2**30 + 1, 2])
    assert counted(big, "real", "y").target.values.tolist() == [[2**30 + 1], [2]]


def test_samples_of_labels_are_counted_under_the_rarest():
    values = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]], bool)
    found = counted(values, "binary", "y", ["a", "b", "c"])
    assert [found.ranges[k] for k in found.codes] == ["b", "a", "no label", "c", "b"]
    assert found.target.values.tolist() == values.astype(int).tolist()


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.array(["a"]), "real", "must be numbers for real targets"),
        (np.zeros((2, 2, 2)), "real", r"has shape \(2, 2, 2\)"),
        (np.array([[1.0, np.nan], [np.inf, 1]]), "real", "2 of 2 samples .* sample 0"),
        (np.array([[1, 0], [3, 1]]), "binary", "label 'target 0' of sample 1 is 3"),
        (np.ma.masked_equal([1.0, 2.0], 2.0), "real", "1 of 2 samples have no finite"),
    ],
)
def test_values_that_are_no_targets_are_refused(values, kind, message):
    with pytest.raises(DataError, match=message):
        counted(values, kind, "y")


def test_names_must_fit():
    with pytest.raises(DataError, match="1 targets, but 2 names"):
        counted(np.zeros(3), "real", "y", ["a", "b"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 1.0], True),
        ([[0.5], [1.0]], True),
        ([1.0, 2.0], False),
        ([0.5, np.nan], False),
        ([[0.5, 1.0]], False),
        ([1, 2], False),
    ],
)
def test_fractions_make_a_regression(values, expected):
    assert has_fractions(np.array(values)) is expected


def test_an_archive_with_fractions_is_a_regression(tmp_path, capsys):
    y = RNG.normal(size=60)
    manifest = prepare("arrays", saved(tmp_path, y), tmp_path / "d")
    shown = capsys.readouterr()
    assert "train with task=regression" in shown.out + shown.err
    assert (manifest.target.kind, manifest.target.names) == ("real", ("target",))
    assert "target" not in manifest.preparation["source"]


def test_whole_numbers_are_classes_unless_told(tmp_path):
    y = np.arange(60) % 5
    path = saved(tmp_path, y)
    assert prepare("arrays", path, tmp_path / "classes").target is None
    found = prepare("arrays", path, tmp_path / "real", "target=real")
    assert_allclose(found.target.mean, 2, atol=0.2)
    assert found.preparation["source"]["target"] == "real"


def test_names_of_labels_come_from_the_archive(tmp_path):
    y = (RNG.random((60, 2)) < 0.4).astype(int)
    path = saved(tmp_path, y, target_names=np.array(["cat", "dog"]))
    manifest = prepare("arrays", path, tmp_path / "d", "target=binary")
    assert manifest.target.names == ("cat", "dog")


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        (["target=real"], {"class_names": np.array(["a"])}, "'class_names', but the"),
        ([], {"target_names": np.array(["a"])}, "'target_names', but the target is c"),
        (["target=real", "shift=concept"], {}, "has real targets; leave it out"),
        (["target=odd"], {}, "target: .*'odd'"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, options, more, message):
    path = saved(tmp_path, np.arange(60) % 5, **more)
    with pytest.raises(FedAPMError, match=message):
        prepare("arrays", path, tmp_path / "d", *options)


def test_several_columns_name_the_kind_to_choose(tmp_path):
    y = (RNG.random((60, 2)) < 0.4).astype(int)
    y[0] = 1
    for values, kind in ((y, "binary"), (y + 0.5, "real")):
        with pytest.raises(DataError, match=f"set target={kind}"):
            prepare("arrays", saved(tmp_path, values), tmp_path / "d")


def test_dense_targets_are_counted_under_the_most_frequent_class():
    values = np.array([[0, 1, 1], [2, -5, 2], [0, 1, 2], [-1, -1, -1]])
    found = counted(values, "dense", "y", ["a", "b", "c"])
    assert [found.ranges[k] for k in found.codes] == ["b", "c", "a", "no class"]
    assert found.target.values.dtype == np.int8
    assert found.target.values.tolist() == np.maximum(values, -1).tolist()
    assert counted(values, "dense", "y").target.names == ("0", "1", "2")
    wide = counted(np.array([[200, 3]], np.uint8), "dense", "y")
    assert wide.target.values.dtype == np.int16
    assert wide.target.values.tolist() == [[200, 3]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((3, 2)), "must be integers for dense targets, not"),
        (np.zeros(3, int), r"shape \(3,\); dense targets are \(samples, positions"),
        (np.array([[0, 1], [0, 3]]), r"sample 1 at \[1\] is 3, but there are 2 class"),
        (np.full((2, 2), -1), "no position has a class"),
    ],
)
def test_dense_targets_that_are_refused(values, said):
    with pytest.raises(DataError, match=said):
        counted(values, "dense", "y", ["a", "b"])


def tokens(tmp_path, **more):
    text = RNG.integers(0, 6, (40, 5))
    path = tmp_path / "made.npz"
    after = np.roll(text, -1, axis=1)
    np.savez(path, x_text=text, y=after, client=np.arange(40) % 4, **more)
    return path, text


def test_arrays_of_codes_and_dense_targets(tmp_path):
    path, text = tokens(tmp_path, text_codes=9, class_names=np.array(list("abcdef")))
    manifest = prepare("arrays", path, tmp_path / "d", "target=dense")
    assert manifest.inputs[0].codes == 9
    assert (manifest.target.names, manifest.target.shape) == (tuple("abcdef"), (5,))
    path, text = tokens(tmp_path)
    manifest = prepare("arrays", path, tmp_path / "e", "target=dense", "codes=[text]")
    assert manifest.inputs[0].codes == text.max() + 1


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ({}, ["codes=[txt]"], "no input.*did you mean 'text'"),
        ({"text_codes": 4}, [], "not 0 to 3; correct the codes, or their number"),
        ({"text_codes": 2.5}, [], "codes are counted from 1"),
        ({"text_codes": 9, "text_scale": 2.0}, [], "holds codes; leave it out"),
        ({"target_names": np.array(["a"])}, [], "the target is dense; leave it out"),
        ({}, ["shift=noise", "shift.inputs=[text]", "codes=[text]"], "holds codes"),
    ],
)
def test_codes_that_are_refused(tmp_path, more, options, said):
    path, _ = tokens(tmp_path, **more)
    with pytest.raises(FedAPMError, match=said):
        prepare("arrays", path, tmp_path / "d", "target=dense", *options)


def test_shifts_leave_codes_alone(tmp_path):
    text = RNG.integers(0, 6, (40, 5))
    path = tmp_path / "made.npz"
    np.savez(
        path, x_text=text, x_f=RNG.normal(size=(40, 2)), y=text % 2,
        client=np.arange(40) % 4, text_codes=6,
    )  # fmt: skip
    made = prepare("arrays", path, tmp_path / "d", "target=dense", "shift=noise")
    held = everyone(made)
    found = np.concatenate([one.inputs["text"] for one in held["train"]])
    assert sorted(map(tuple, found)) < sorted(map(tuple, text)) or len(found) < 40
    assert set(np.unique(found)) <= set(range(6))
    noisy = np.concatenate([one.inputs["f"] for one in held["train"]])
    assert noisy.std() > 1.05


TWO = np.random.default_rng(1).normal(size=(9, 2))


def test_an_archive_has_weights_and_lacks_targets(tmp_path):
    y = RNG.normal(size=(60, 2))
    y[::3, 0] = np.nan
    weight = np.arange(1, 61)
    path = saved(tmp_path, y, weight=weight)
    manifest = prepare(
        "arrays", path, tmp_path / "d", "target=real", "incomplete=true", "test=0.3"
    )
    assert manifest.weights
    assert manifest.target.incomplete
    assert "no target 0" in manifest.classes
    rows = [own for parts in everyone(manifest).values() for own in parts]
    found = {
        one: w
        for own in rows
        for one, w in zip(own.target[:, 1], own.weights, strict=True)
    }
    assert found == dict(zip(y[:, 1], weight.astype(float), strict=True))


@pytest.mark.parametrize(
    ("y", "weight", "options", "said"),
    [
        (TWO, np.arange(9), [], "'weight': the weight of sample 0"),
        (TWO, np.full(9, "a"), [], "must be one number for each"),
        (np.arange(9) % 3, None, ["incomplete=true"], "incomplete has no effect on cl"),
        ([[np.nan] * 2] * 9, None, ["target=real", "incomplete=true"], "no target at"),
        ([[0.5, 1]] * 9, None, ["target=binary", "incomplete=true"], "not 0 or 1"),
    ],
)
def test_weights_and_lacking_targets_that_cannot_be(tmp_path, y, weight, options, said):
    more = {} if weight is None else {"weight": weight}
    path = saved(tmp_path, np.array(y), **more)
    words = options or ["target=real"]
    with pytest.raises(FedAPMError, match=said):
        prepare("arrays", path, tmp_path / "d", *words)


def test_samples_without_the_first_target_cannot_be_sorted_by_it(tmp_path):
    y = RNG.normal(size=(60, 2))
    y[5, 0] = np.nan
    words = ["target=real", "incomplete=true", "partitioner=continuous", "clients=3"]
    with pytest.raises(FedAPMError, match="1 samples lack the first target"):
        prepare("arrays", saved(tmp_path, y), tmp_path / "d", *words)
