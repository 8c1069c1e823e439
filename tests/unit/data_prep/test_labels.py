"""Labels, clients, splits and lengths of any type become the right ones, or a refusal.

Cases 08, 23, a and j of the field: each is tried on the functions, and through
``fedapm prepare arrays`` where what is shown or stored matters.
"""

import os
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from data_prep.labels import class_names, labels
from data_prep.regression_labels import looks_like_a_quantity
from data_prep.sample_fields import identifiers, lengths, lookalikes, split_codes
from data_prep.sources import sources
from data_prep.unused_inputs import unused
from fedapm_mpi.errors import DataError
from tests.support.preparation import everyone, prepare

Y = "made.npz: 'y'"


def refused(function, *args):
    with pytest.raises(DataError) as caught:
        function(*args)
    message = str(caught.value)
    assert len(message) < 500
    return message


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_labels_from_0_are_used_as_they_are(dtype):
    y = np.array([2, 0, 1, 0], dtype)
    made = labels(y, Y)
    assert made.codes is y
    assert made.classes == ("0", "1", "2")
    assert not made.note


@pytest.mark.parametrize(
    ("values", "codes", "classes"),
    [
        ([1, 3, 2, 1], [0, 2, 1, 0], ("1", "2", "3")),
        ([10, 5000, 200], [0, 2, 1], ("10", "200", "5000")),
        ([0, 2, 0], [0, 1, 0], ("0", "2")),
        ([300_000_000, 1], [1, 0], ("1", "300000000")),
        ([2**62, -(2**62)], [1, 0], (str(-(2**62)), str(2**62))),
        ([7, 7], [0, 0], ("7",)),
        ([-1, 1, -1], [0, 1, 0], ("-1", "1")),
        ([1.0, 2.0, 1.0], [0, 1, 0], ("1", "2")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        (["cat", "ant", "cat"], [1, 0, 1], ("ant", "cat")),
        ([b"cat", "ä".encode(), b"cat"], [0, 1, 0], ("cat", "ä")),
        (["10", "9", "100"], [1, 0, 2], ("9", "10", "100")),
        ([["a"], ["b"], ["a"]], [0, 1, 0], ("a", "b")),
    ],
)
def test_distinct_values_are_the_classes(values, codes, classes):
    made = labels(np.array(values), Y)
    assert made.codes.tolist() == codes
    assert made.classes == classes
    many = f"the {len(classes)} distinct values are the classes"
    assert (many if len(classes) > 1 else "is the only class") in made.note
    assert "made.npz" not in made.note  # The manifest does not know where a file lay.


@pytest.mark.parametrize("values", [[2.0, 0.0, 1.0], [[2], [0], [1]]])
def test_whole_floats_and_one_column_are_labels_from_0(values):
    made = labels(np.array(values), Y)
    assert (made.codes.tolist(), made.classes) == ([2, 0, 1], ("0", "1", "2"))
    assert not made.note


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8"])
def test_whole_floats_of_any_width(dtype):
    assert labels(np.array([1, 0, 2], dtype), Y).codes.tolist() == [1, 0, 2]


@pytest.mark.parametrize("value", [-1, -100])
def test_negative_labels_among_others_are_asked_about(value):
    made = labels(np.array([value, 0, 1, value]), Y)
    assert made.classes == (str(value), "0", "1")
    assert f"this takes {value} for a class" in made.note
    assert "2 labels are negative" in made.note


def test_two_classes_of_opposite_sign_are_not_asked_about():
    assert "this takes" not in labels(np.array([-1, 1, -1]), Y).note
    assert "this takes -1 for a class" in labels(np.array([-1, 2, -1]), Y).note


def test_huge_labels_take_no_more_time_or_memory():
    y = np.arange(20_000) % 50
    y[0] = 2**62
    tracemalloc.start()
    began = time.perf_counter()
    made = labels(y, Y)
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(made.classes) == 51
    assert made.codes[0] == 50
    assert seconds < 2
    assert peak < 50 * y.nbytes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([0, np.nan, np.nan]), "2 of 3 samples have no label (NaN)"),
        (np.array([0.0, 0.5]), "'y' of sample 1 is 0.5, no whole number"),
        (np.array([0.0, np.inf]), "'y' of sample 1 is inf, no whole number"),
        (np.array([0.0, 1e300]), "'y' of sample 1 is 1e+300: float64 does not"),
        (np.eye(3), "it looks one-hot: save np.argmax(y, axis=1)"),
        (np.eye(3, dtype=bool), "it looks one-hot"),
        (np.ones((3, 2)), "for several targets of a sample set target=binary"),
        (np.zeros((1, 3), int), "not int64 of shape (1, 3)"),
        (np.zeros((), int), "one integer label for each sample"),
        (np.zeros(0), "one integer label for each sample"),
        (np.zeros(3, complex), "not complex128"),
        (np.zeros(3, "M8[D]"), "not datetime64[D]"),
        (np.zeros(3, [("a", int)]), "one integer label for each sample"),
        (np.array([0, 1], object), "np.asarray(y, dtype=str) or dtype=int"),
        (np.array(["a", "", " "]), "2 of 3 samples have no label, the first is"),
        (np.array(["a", "nan"]), "no label, the first is sample 1 ('nan')"),
        (np.array([b"a", b"\xff"]), "not UTF-8"),
    ],
)  # fmt: skip
def test_no_labels(values, message):
    said = refused(labels, values, Y)
    assert message in said
    assert "'y'" in said


def test_class_names_are_indexed_or_named():
    names = ("no", "yes", "None")
    assert labels(np.array([1, 0, 1]), Y, names).codes.tolist() == [1, 0, 1]
    assert labels(np.array([1.0, 0.0]), Y, names).codes.tolist() == [1, 0]
    assert labels(np.array([True, False]), Y, names).codes.tolist() == [1, 0]
    made = labels(np.array(["yes", "None", "no"]), Y, names)
    assert made.codes.tolist() == [1, 2, 0]
    assert made.classes == names
    assert not made.note
    said = refused(labels, np.array([1, 3, 2]), Y, names)
    assert "label 3 of sample 1 is not in 0 to 2" in said
    assert "labels count from 0: subtract 1" in said
    assert "label -1 of sample 1" in refused(labels, np.array([0, -1]), Y, names)
    said = refused(labels, np.array(["no", "yess"]), Y, names)
    assert "of sample 1 is 'yess'" in said
    assert "did you mean 'yes'?" in said


def test_names_of_classes():
    where = "made.npz: 'class_names'"
    assert class_names(np.array([b"a", b"b"]), where) == ("a", "b")
    assert class_names(np.array([3, 1]), where) == ("3", "1")
    assert "'a' twice" in refused(class_names, np.array(["a", "b", "a"]), where)
    assert "empty for class 1" in refused(class_names, np.array(["a", " "]), where)
    assert "one text for each class" in refused(class_names, np.zeros((2, 2)), where)


@pytest.mark.parametrize(
    ("values", "names", "codes"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ([b"b", b"a"], ("a", "b"), [1, 0]),
        ([10, 9, 10], ("9", "10"), [1, 0, 1]),
        ([0.0, 10.0, 2.0], ("0", "2", "10"), [0, 2, 1]),
        ([0.5, 1.0], ("0.5", "1.0"), [0, 1]),
        ([True, False], ("False", "True"), [1, 0]),
        ([[4], [3]], ("3", "4"), [1, 0]),
        ([-(2**62), 2**62], (str(-(2**62)), str(2**62)), [0, 1]),
    ],
)
def test_clients(values, names, codes):
    made = identifiers(np.array(values), "made.npz: 'client'")
    assert made.names == names
    assert made.codes.tolist() == codes
    assert bool(made.note) == (values == [0.0, 10.0, 2.0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, np.nan, np.nan], "2 of 3 samples have no client, the first is sample 1"),
        ([np.inf, 1], "1 of 2 samples have no client, the first is sample 0 (inf)"),
        (["a", "", "b", "  "], "2 of 4 samples have no client, the first is sample 1"),
        (["a", "nan"], "the first is sample 1 ('nan')"),
        (["None", "a"], "the first is sample 0 ('None')"),
        (["a", "NaT"], "the first is sample 1 ('NaT')"),
        (["a", "<NA>"], "the first is sample 1 ('<NA>')"),
        ([b"a", b""], "the first is sample 1 ('')"),
        (np.array(["2026-01-01", "NaT"], "M8[D]"), "1 of 2 samples have no client"),
        (np.ma.array([1, 2], mask=[0, 1]), "1 of 2 samples have no client"),
        (np.ma.array(["a", "b"], mask=[0, 1]), "1 of 2 samples have no client"),
        (np.array(["a", None], object), "save np.asarray(client, dtype=str)"),
        (np.zeros(2, complex), "not complex128 of shape (2,)"),
        (np.zeros((2, 2)), "one text or number for each sample"),
    ],
)  # fmt: skip
def test_samples_without_a_client(values, message):
    if not isinstance(values, np.ndarray):
        values = np.array(values)
    said = refused(identifiers, values, "made.npz: 'client'")
    assert message in said
    assert "'client'" in said


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8"])
def test_clients_as_floats_of_any_width(dtype):
    made = identifiers(np.array([3, 1, 3], dtype), "made.npz: 'client'")
    assert (made.names, made.codes.tolist()) == (("1", "3"), [1, 0, 1])


@pytest.mark.parametrize(
    ("dtype", "last"), [("f2", 2**11), ("f4", 2**24), ("f8", 2**53), ("g", 2**53)]
)
def test_floats_that_may_stand_for_two_clients_are_refused(dtype, last):
    """As float32, 16777216 and 16777217 are one number."""
    sound = identifiers(np.array([last - 1, last - 2], dtype), "x.npz: 'client'")
    assert sound.names == (str(last - 2), str(last - 1))
    for function, what in ((identifiers, "client"), (labels, "y")):
        values = np.array([1, last, last + 1], dtype)
        said = refused(function, values, f"x.npz: '{what}'")
        assert f"every whole number from {last} on" in said
        assert "of sample 1 is" in said


def test_names_that_differ_in_case_or_spaces_are_asked_about():
    assert "'Ward B' and 'ward  b '" in lookalikes(
        ("Ward B", "c", "ward  b "), "clients"
    )
    assert not lookalikes(("A", "a", "ward b", "ward c"), "clients")
    assert "are they the same" in lookalikes(("\u00e9t\u00e9", "e\u0301te\u0301"), "")


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (["train", "test", "val"], [0, 1, 2]),
        (["Train", " TEST", "dev"], [0, 1, 2]),
        ([b"test", b"validation", b"training"], [1, 2, 0]),
        ([0.0, 2.0], [0, 2]),
        (["0", "1 ", "2"], [0, 1, 2]),
        ([[1], [0]], [1, 0]),
    ],
)
def test_splits(values, codes):
    made = split_codes(np.array(values), "made.npz: 'split'")
    assert (made.tolist(), made.dtype) == (codes, np.int8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 3], "of sample 2 is 3; it must be 0 (train), 1 (test)"),
        ([0, 2**40], "of sample 1 is 1099511627776"),
        ([0, np.nan], "of sample 1 is nan"),
        ([0, 0.5], "of sample 1 is 0.5"),
        (["train", "tset"], "of sample 1 is 'tset'"),
        (["train", ""], "of sample 1 is '';"),
        ([True, False], "of truth values it is not known which is test"),
        (np.array(["train", None], object), "not object of shape (2,)"),
    ],
)
def test_no_splits(values, message):
    assert message in refused(split_codes, np.array(values), "made.npz: 'split'")


def test_lengths():
    where, rest = "made.npz: 'length'", "the time axis"
    given = np.array([1, 9], np.uint8)
    assert lengths(given, where, 1, 9, rest) is given
    made = lengths(np.array([[1.0], [9.0]]), where, 1, 9, rest)
    assert (made.tolist(), made.dtype.kind) == ([1, 9], "i")
    for values, message in (
        ([1, np.nan], "1 of 2 samples have no length (NaN), the first is sample 1"),
        ([1, 2.5], "of sample 1 is 2.5, no whole number"),
        ([1, 10], "length 10 of sample 1 is not in 1 to 9, the time axis"),
        ([1, -(2**60)], "length -1152921504606846976 of sample 1"),
        ([True, True], "one whole number for each sample, not bool"),
        (["1", "2"], "one whole number for each sample"),
    ):
        assert message in refused(lengths, np.array(values), where, 1, 9, rest)


# Case a: is it a regression?


def quantity(y):
    values, counts = np.unique(y, return_counts=True)
    return looks_like_a_quantity(values.tolist(), counts.tolist())


@pytest.mark.parametrize("n", [80, 1000, 10_000])
def test_ages_are_asked_about(n):
    rng = np.random.default_rng(0)
    assert quantity(rng.integers(20, 90, n))
    assert quantity(rng.normal(170, 10, n).astype(int))


def test_other_quantities_are_asked_about():
    rng = np.random.default_rng(0)
    assert quantity(rng.integers(1950, 2021, 500))
    assert quantity(rng.integers(0, 100_000, 300))
    assert quantity(rng.integers(-20, 40, 300))
    assert quantity(rng.integers(4, 60, 200) * 5)
    assert quantity(rng.permutation(100)[:60])
    # Scores of a test: 196 values from 288 to 626, with 100 samples each.
    assert quantity(np.repeat(np.sort(rng.permutation(455)[:196]) + 288, 100))


@pytest.mark.parametrize("each", [1, 3, 600])
@pytest.mark.parametrize("classes", [2, 10, 62, 100, 1000])
def test_classes_from_0_or_1_are_not_asked_about(each, classes):
    y = np.repeat(np.arange(classes), each)
    assert not quantity(y)
    assert not quantity(y + 1)


def test_other_classes_are_not_asked_about():
    rng = np.random.default_rng(0)
    assert not quantity(rng.integers(0, 62, 186))  # Some of FEMNIST's are not there.
    assert not quantity(np.repeat([10, 200, 5000], 5))
    assert not quantity(np.repeat(np.arange(30) ** 2, 50))
    assert not quantity(np.arange(20, 39))
    assert not quantity(np.repeat(np.sort(rng.permutation(100)[:40]), 100))
    assert not quantity(np.repeat(np.sort(rng.permutation(1000)[:100]), 100))
    assert not quantity(np.repeat(np.arange(100, 200), 600))


# Through fedapm prepare


def toy(path, m=4, n=20, k=3, **more):
    rng = np.random.default_rng(0)
    y = rng.integers(0, k, m * n)
    x = (rng.normal(size=(m * n, 6)) + y[:, None]).astype(np.float32)
    found = {"x_a": x, "y": y, "client": np.repeat(np.arange(m), n)} | more
    np.savez(path, **{key: value for key, value in found.items() if value is not None})
    return found


def test_phantom_classes(tmp_path, capsys):
    """Labels that begin at 1 or have gaps make the same data set as those from 0."""
    made = {}
    y = toy(tmp_path / "zero.npz")["y"]
    toy(tmp_path / "one.npz", y=y + 1)
    toy(tmp_path / "gaps.npz", y=np.array([10, 200, 5000])[y])
    toy(tmp_path / "huge.npz", y=np.r_[300_000_000, y[1:]])
    for name in ("zero", "one", "gaps", "huge"):
        made[name] = prepare("arrays", tmp_path / f"{name}.npz", tmp_path / name)
        said = capsys.readouterr().out
        assert ("note: the entries of 'y'" in said) == (name != "zero")
    assert made["zero"].classes == ("0", "1", "2")
    assert made["one"].classes == ("1", "2", "3")
    assert made["gaps"].classes == ("10", "200", "5000")
    assert made["huge"].classes == ("0", "1", "2", "300000000")
    assert "notes" not in made["zero"].preparation
    assert "10, 200, 5000" in made["gaps"].preparation["notes"][0]
    zero = made["zero"]
    for name in ("one", "gaps"):
        for split, counts in zero.label_counts.items():
            np.testing.assert_array_equal(made[name].label_counts[split], counts)
        for split, clients in everyone(zero).items():
            for a, b in zip(clients, everyone(made[name])[split], strict=True):
                np.testing.assert_array_equal(a.labels, b.labels)
                np.testing.assert_array_equal(a.inputs["a"], b.inputs["a"])
    assert made["huge"].label_counts["train"].shape == (4, 4)


@pytest.mark.parametrize("key", ["client", "y"])
def test_missing_entries_end_prepare_with_one_sentence(tmp_path, key):
    found = toy(tmp_path / "made.npz")
    values = found[key].astype(float)
    values[[5, 9]] = np.nan
    toy(tmp_path / "nan.npz", **{key: values})
    with pytest.raises(DataError, match=r"2 of 80 samples have no .* sample 5"):
        prepare("arrays", tmp_path / "nan.npz", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_clients_that_pandas_made_floats(tmp_path, capsys):
    client = toy(tmp_path / "ints.npz")["client"]
    toy(tmp_path / "floats.npz", client=client.astype(float))
    ints = prepare("arrays", tmp_path / "ints.npz", tmp_path / "a")
    floats = prepare("arrays", tmp_path / "floats.npz", tmp_path / "b")
    assert floats.client_names == ints.client_names == ("0", "1", "2", "3")
    assert "without a decimal point" in capsys.readouterr().out


@pytest.mark.parametrize(
    "key", ["client", "y", "split", "length", "x_a", "class_names"]
)
@pytest.mark.parametrize("folder", [False, True])
def test_objects_are_refused_by_name_and_never_unpickled(tmp_path, key, folder):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    values = np.array([Trap()] * 80, object)
    if folder:
        where = tmp_path / "arrays"
        where.mkdir()
        for name, array in (toy(tmp_path / "made.npz") | {key: values}).items():
            np.save(where / f"{name}.npy", array)
    else:
        where = tmp_path / "made.npz"
        toy(where, **{key: values})
    said = refused(sources.get("arrays"), where)
    assert f"'{key}' holds Python objects" in said
    assert f"np.asarray({key}, dtype=" in said
    assert not (tmp_path / "ran").exists()


def test_objects_that_nothing_reads_are_named_only(tmp_path, capsys):
    toy(tmp_path / "made.npz", remarks=np.array([{}] * 80, object))
    prepare("arrays", tmp_path / "made.npz", tmp_path / "to")
    assert "made.npz: nothing reads the array remarks" in capsys.readouterr().out


def test_arrays_that_nothing_reads_are_named(tmp_path, capsys):
    n = np.zeros(80, int)
    toy(tmp_path / "made.npz", client=None, clients=n, Split=n, lenght_a=n, other=n)
    prepare("arrays", tmp_path / "made.npz", tmp_path / "to", "partitioner=iid",
            "clients=2")  # fmt: skip
    said = capsys.readouterr().out
    assert "nothing reads the arrays clients, Split, lenght_a, other" in said
    assert "'clients': did you mean 'client'?" in said
    assert "'Split': did you mean 'split'?" in said
    assert "'lenght_a': did you mean 'length_a'?" in said
    toy(tmp_path / "other.npz", y=None, label=n)
    said = refused(sources.get("arrays"), tmp_path / "other.npz")
    assert "must hold 'y'" in said
    assert "'label': did you mean 'y'?" in said
    assert unused(["y", "x"], ["x", "y"], "here", "array") == ()
    (said,) = unused(["y", "table", "weight"], ["y", "client", "split"], "in", "array")
    assert said == "in: nothing reads the arrays table, weight"  # none is near


def test_inputs_that_were_left_out_are_not_named(tmp_path, capsys):
    toy(tmp_path / "made.npz", x_b=np.zeros((80, 2)))
    prepare("arrays", tmp_path / "made.npz", tmp_path / "to", "inputs=[a]")
    assert "nothing reads" not in capsys.readouterr().out


def test_a_regression_is_asked_about(tmp_path, capsys):
    ages = np.random.default_rng(0).integers(20, 90, 80)
    toy(tmp_path / "ages.npz", y=ages)
    manifest = prepare("arrays", tmp_path / "ages.npz", tmp_path / "to")
    assert manifest.classes == tuple(str(age) for age in np.unique(ages))
    said = capsys.readouterr().out
    assert f"the labels are {len(manifest.classes)} integers from" in said
    assert "is it a regression?" in said
    toy(tmp_path / "classes.npz", y=np.arange(80) % 62)
    prepare("arrays", tmp_path / "classes.npz", tmp_path / "other")
    assert "regression" not in capsys.readouterr().out


def test_texts_and_splits_by_name(tmp_path):
    y = toy(tmp_path / "zero.npz")["y"]
    split = np.where(np.arange(80) % 4 == 0, "test", "train")
    toy(tmp_path / "made.npz", y=np.array(["dog", "cat", "cow"])[y], split=split)
    manifest = prepare("arrays", tmp_path / "made.npz", tmp_path / "to", "split=own")
    assert manifest.classes == ("cat", "cow", "dog")
    assert manifest.counts["test"].tolist() == [5] * 4
    total = sum(counts.sum(axis=0) for counts in manifest.label_counts.values())
    assert total.tolist() == [(y == 1).sum(), (y == 2).sum(), (y == 0).sum()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_a": np.zeros((80, 2), np.clongdouble)}, "save it as complex128 or"),
        ({"x_a": np.zeros((80, 2), "c8"), "a_shift": np.array(1)}, "'x_a' is complex"),
        ({"x_a": np.zeros((80, 2), "M8[D]")}, "'x_a' must hold numbers, not datetime"),
        ({"x_a": np.full((80, 2), "1.5")}, "'x_a' must hold numbers, not <U3"),
        ({"x_a": np.zeros((80, 2), np.longdouble)}, "save it as float64 or float32"),
        ({"x_a": np.zeros((80, 0))}, "'x_a' has shape (80, 0)"),
        ({"a_scale": np.array("1")}, "'a_scale' must be one finite number"),
        ({"a_scale": np.array(np.inf)}, "'a_scale' must be one finite number"),
        ({"a_scale": np.array(True)}, "'a_scale' must be one finite number"),
        ({"a_scale": np.array(0.0)}, "'a_scale' must not be 0"),
        ({"a_shift": np.array(np.nan)}, "'a_shift' must be one finite number"),
        ({"a_shift": np.array(1j)}, "'a_shift' must be one finite number"),
    ],
)  # fmt: skip
def test_inputs_that_are_no_plain_numbers(tmp_path, changes, message):
    toy(tmp_path / "made.npz", **changes)
    assert message in refused(sources.get("arrays"), tmp_path / "made.npz")


def test_a_value_that_is_not_finite_is_named_with_its_place(tmp_path):
    x = toy(tmp_path / "made.npz")["x_a"]
    x[[50, 7], 4] = np.nan
    toy(tmp_path / "nan.npz", x_a=x)
    with pytest.raises(DataError, match=r"in 2 of 80 .* sample 7 at \[4\]"):
        prepare("arrays", tmp_path / "nan.npz", tmp_path / "to", "test=0")


def test_what_a_model_cannot_hold_is_refused(tmp_path):
    """A model sees float32: 1e300 would be infinite there, and the loss NaN."""
    for k, changes in enumerate(
        (
            {"x_a": np.where(np.arange(80)[:, None] == 7, 1e300, np.ones((80, 2)))},
            {"x_a": np.full((80, 2), 5, np.uint8), "a_scale": 1e38},
        )
    ):
        toy(tmp_path / f"{k}.npz", **changes)
        with pytest.raises(DataError, match=r"sample [07] has a value beyond 3.4e\+38"):
            prepare("arrays", tmp_path / f"{k}.npz", tmp_path / f"to{k}")
        assert not (tmp_path / f"to{k}" / "manifest.json").exists()
    toy(tmp_path / "most.npz", x_a=np.full((80, 2), 3.4e38))
    prepare("arrays", tmp_path / "most.npz", tmp_path / "to")


def test_padding_that_is_not_a_number_is_named_as_such(tmp_path):
    x = np.ones((80, 4, 2))
    x[:, 3] = np.nan
    toy(tmp_path / "made.npz", x_a=x, length=np.full(80, 3))
    with pytest.raises(DataError, match=r"at \[3, 0\]; its length is 3, so fill the"):
        prepare("arrays", tmp_path / "made.npz", tmp_path / "to")


def test_what_leaves_nothing_to_learn_or_to_test_is_said(tmp_path, capsys):
    toy(tmp_path / "one.npz", y=np.zeros(80, int))
    prepare("arrays", tmp_path / "one.npz", tmp_path / "to")
    assert "all samples are of one class, '0'" in capsys.readouterr().out
    toy(tmp_path / "each.npz", client=np.arange(80))
    manifest = prepare("arrays", tmp_path / "each.npz", tmp_path / "each")
    assert manifest.counts["test"].sum() == 0
    assert "every client has only one sample, which is" in capsys.readouterr().out
    prepare("arrays", tmp_path / "each.npz", tmp_path / "none", "test=0")
    assert "no test samples" not in capsys.readouterr().out


def test_file_names_that_are_no_utf8_and_long_names_of_classes(tmp_path, capsys):
    path = tmp_path / os.fsdecode(b"made\xff.npz")
    y = toy(path)["y"]
    toy(path, y=np.array(["a" * 10_000, "b", "c"])[y])
    manifest = prepare("arrays", path, tmp_path / "to")
    assert manifest.dataset == "made\\udcff"
    assert manifest.preparation["files"][0]["name"] == "made\\udcff.npz"
    assert manifest.classes[0] == "a" * 10_000
    assert max(map(len, capsys.readouterr().out.splitlines())) < 200


def test_truth_values_as_inputs_are_bytes(tmp_path):
    x = np.random.default_rng(0).random((80, 5)) < 0.5
    toy(tmp_path / "made.npz", x_a=x)
    manifest = prepare("arrays", tmp_path / "made.npz", tmp_path / "to", "test=0")
    spec = manifest.inputs[0]
    assert (spec.dtype, spec.scale, spec.shift) == ("uint8", 1, 0)
    held = everyone(manifest)
    found = np.concatenate(
        [held[split][client].inputs["a"] for client in range(4) for split in held]
    )
    np.testing.assert_array_equal(np.unique(found, axis=0), np.unique(x, axis=0))


def test_arrays_of_16_bits_that_may_be_images_are_asked_about(tmp_path, capsys):
    toy(tmp_path / "made.npz", x_scan=np.zeros((80, 4, 4), np.uint16))
    prepare("arrays", tmp_path / "made.npz", tmp_path / "to")
    assert "save scan_scale = 1/32767.5" in capsys.readouterr().out


# damage.md N


def test_members_of_an_npz_that_are_no_arrays_or_double(tmp_path):
    toy(tmp_path / "made.npz")
    with zipfile.ZipFile(tmp_path / "made.npz", "a") as archive:
        archive.writestr("README.txt", "nothing to read")
    assert sources.get("arrays")(tmp_path / "made.npz").warnings
    with zipfile.ZipFile(tmp_path / "made.npz", "a") as archive:
        archive.writestr("split", "no array")
    said = refused(sources.get("arrays"), tmp_path / "made.npz")
    assert "'split' is not an array" in said
    toy(tmp_path / "twice.npz")
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "twice.npz", "a") as archive,
    ):
        archive.writestr("y.npy", archive.read("client.npy"))
    said = refused(sources.get("arrays"), tmp_path / "twice.npz")
    assert "holds the array 'y' twice" in said


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    assert "not a regular file" in refused(sources.get("arrays"), tmp_path / "pipe.npz")
    folder = tmp_path / "arrays"
    folder.mkdir()
    os.mkfifo(folder / "y.npy")
    np.save(folder / "x_a.npy", np.zeros((3, 2)))
    assert "not a regular file" in refused(sources.get("arrays"), folder)
    (folder / "y.npy").unlink()
    np.save(folder / "y.npy", np.zeros(3, int))
    (folder / "gone.npy").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"cannot read .*gone\.npy"):
        prepare("arrays", folder, tmp_path / "to", "partitioner=iid", "clients=1")
    (folder / "gone.npy").unlink()
    os.mkfifo(folder / "other.npy")
    assert "not a regular file" in refused(sources.get("arrays"), folder)
