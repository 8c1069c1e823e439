"""Targets that are no classes: written, described, read back, and refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from data_prep.targets import counted
from fedapm_mpi.data.hdf5_layout import range_faults
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import to_samples
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.target import TargetValues, check_target
from fedapm_mpi.data.verify import verify
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import strict_json

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4)).astype(np.float32)
REAL = RNG.normal(size=(30, 2)) * [1, 100] + [0, 5]
SPLITS = {
    "train": [np.arange(10), np.arange(10, 18)],
    "test": [np.arange(18, 24), np.arange(24, 30)],
}


MASKS = RNG.integers(-1, 3, (30, 4, 2))


def table(kind="real", values=REAL, names=("a", "b")):
    made = counted(values, kind, "y", names)
    return Table("t", [column("x", X)], made.codes, made.ranges, target=made.target)


def test_targets_are_read_as_they_were_written(tmp_path):
    manifest = write_dataset(tmp_path / "d", table(), SPLITS, shards=2)
    reader = ShardReader(manifest)
    for split, parts in SPLITS.items():
        for client, rows in enumerate(parts):
            stored = reader.read(client, split)
            assert (stored.target == REAL[rows]).all()
            found = to_samples(stored, manifest.inputs, torch.float32).targets
            assert found.dtype == torch.float32
            assert_allclose(found, REAL[rows], rtol=1e-6)
    assert [shard.name for shard, _ in verify(manifest)] == [
        file.name for file in manifest.files
    ]


def test_the_manifest_has_statistics_of_training_rows(tmp_path):
    write_dataset(tmp_path / "d", table(), SPLITS)
    spec = read_manifest(tmp_path / "d").target
    assert (spec.kind, spec.names, spec.dtype) == ("real", ("a", "b"), "float64")
    assert_allclose(spec.mean, REAL[:18].mean(axis=0))
    assert_allclose(spec.std, REAL[:18].std(axis=0))


def test_labels_count_ranges_of_targets(tmp_path):
    manifest = write_dataset(tmp_path / "d", table(), SPLITS)
    assert manifest.schema_version == 2
    assert len(manifest.classes) == 10
    assert manifest.label_counts["train"].sum() == 18


def test_class_labels_alone_keep_their_schema(tmp_path):
    plain = replace(table(), target=None)
    manifest = write_dataset(tmp_path / "d", plain, SPLITS)
    assert manifest.schema_version == 1
    assert b"target" not in (tmp_path / "d" / "manifest.json").read_bytes()
    assert ShardReader(manifest).read(0, "train").target is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "odd"}, "'odd' of type"),
        ({"dtype": "int8"}, "of type 'int8'"),
        ({"mean": [1.0]}, "name, mean and std for each"),
        ({"names": ["a", "a"]}, "name, mean and std for each"),
        ({"std": [-1.0, 1.0]}, "standard deviation -1.0"),
        ({"std": ["x", 1.0]}, "not a finite number"),
        ({"more": 1}, "has or lacks the key 'more'"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path, change, message):
    write_dataset(tmp_path / "d", table(), SPLITS)
    path = tmp_path / "d" / "manifest.json"
    tree = json.loads(path.read_text())
    tree.pop("checksum")
    tree["target"] |= change
    path.write_bytes(strict_json.encode(tree))
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / "d")


def test_a_version_and_its_keys_go_together(tmp_path):
    write_dataset(tmp_path / "d", table(), SPLITS)
    path = tmp_path / "d" / "manifest.json"
    tree = json.loads(path.read_text())
    tree.pop("checksum")
    for change in ({"schema_version": 1}, {"target": None}):
        now = {k: v for k, v in (tree | change).items() if v is not None}
        path.write_bytes(strict_json.encode(now))
        with pytest.raises(
            DataError, match=r"has schema version \d, and (a|no) target"
        ):
            read_manifest(tmp_path / "d")


def with_value(row, column, value):
    changed = REAL.copy()
    changed[row, column] = value
    return changed


def values(kind="real", array=REAL, names=("a", "b")):
    return TargetValues(kind, names, array)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (values(kind="odd"), "kind is 'odd'"),
        (values(array=REAL.astype(int)), "real targets are int64, not float32 or"),
        (values(array=REAL[:5]), r"shape \(5, 2\) do not fit 30 samples"),
        (values(names=("a",)), "and 1 names"),
        (values(names=("a", "a")), "a name of its own"),
        (values(array=with_value(3, 1, np.nan)), "'b' of sample 3"),
        (values("binary", np.full((30, 2), 2, np.uint8)), "is 2; it must be 0 or 1"),
    ],
)
def test_what_cannot_be_a_target_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        check_target(given, 30, "t")


def test_a_target_that_is_not_finite_in_a_shard_is_named(tmp_path):
    unchecked = replace(table(), target=values(array=with_value(12, 0, np.inf)))
    with pytest.raises(DataError, match="target 'a' of sample 12 is inf"):
        write_dataset(tmp_path / "d", unchecked, SPLITS)


def test_a_stored_target_out_of_range_is_a_fault(tmp_path):
    manifest = write_dataset(tmp_path / "d", table(), SPLITS)
    stored = ShardReader(manifest).read(0, "train")
    assert list(range_faults(stored, manifest)) == []
    bad = stored._replace(target=with_value(2, 1, np.nan)[:10])
    assert list(range_faults(bad, manifest)) == ["target 'b' of sample 2 is nan"]


def masked(values=MASKS, names=("a", "b", "c")):
    return table("dense", values, names)


def test_dense_targets_are_read_as_they_were_written(tmp_path):
    manifest = write_dataset(tmp_path / "d", masked(), SPLITS, shards=2)
    assert read_manifest(tmp_path / "d").target == manifest.target
    assert (manifest.target.dtype, manifest.target.shape) == ("int8", (4, 2))
    reader = ShardReader(manifest)
    for split, parts in SPLITS.items():
        for client, rows in enumerate(parts):
            stored = reader.read(client, split)
            found = to_samples(stored, manifest.inputs, torch.float32).targets
            assert found.dtype == torch.int64
            assert found.tolist() == MASKS[rows].tolist()
    assert len(list(verify(manifest))) == 2


def test_shares_of_dense_classes_are_those_of_training_positions(tmp_path):
    manifest = write_dataset(tmp_path / "d", masked(), SPLITS)
    own = MASKS[:18]
    shares = np.array([(own == k).sum() for k in range(3)]) / (own >= 0).sum()
    assert_allclose(manifest.target.mean, shares, rtol=1e-12)
    assert_allclose(manifest.target.std, np.sqrt(shares * (1 - shares)), rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "names", "said"),
    [
        (MASKS.astype(np.int64), ("a", "b", "c"), "int64, not int8 or int16 or int32"),
        (MASKS[:, 0, 0].astype(np.int8), ("a", "b", "c"), r"needed is \(samples, pos"),
        (MASKS.astype(np.int8), (), "0 names are given"),
        (MASKS.astype(np.int8), ("a", "a", "c"), "a name of its own"),
        (MASKS.astype(np.int8), ("a", "b"), r"at \[\d, \d\] is 2; .* 0 to 1, or -1"),
        (MASKS.astype(np.int8) - 1, ("a", "b", "c"), r"is -2; it must be a class"),
    ],
)
def test_dense_targets_that_cannot_be(values, names, said):
    with pytest.raises(DataError, match=said):
        check_target(TargetValues("dense", names, values), 30, "t")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [4, 3]}, "damaged"),
        ({"shape": []}, "shape"),
        ({"shape": [0]}, "shape"),
        ({"dtype": "uint8"}, "type"),
        ({"kind": "real"}, "shape"),
    ],
)
def test_a_manifest_of_other_positions_is_refused(tmp_path, change, said):
    write_dataset(tmp_path / "d", masked(), SPLITS)
    path = tmp_path / "d" / "manifest.json"
    tree, _ = strict_json.decode(path.read_bytes())
    tree["target"] |= change
    path.write_bytes(strict_json.encode(tree))
    with pytest.raises(DataError, match=said):
        ShardReader(read_manifest(tmp_path / "d")).read(0, "train")


def test_a_stored_class_that_is_none_is_a_fault(tmp_path):
    manifest = write_dataset(tmp_path / "d", masked(), SPLITS)
    stored = ShardReader(manifest).read(0, "train")
    stored.target[3, 1, 0] = 7
    (fault,) = range_faults(stored, manifest)
    assert fault == "the target of sample 3 at [1, 0] is 7"


LACKING = np.where(RNG.random(REAL.shape) < 0.3, np.nan, REAL)
LACKING[np.isnan(LACKING).all(axis=1)] = 7.0


def incomplete(kind="real", given=LACKING, names=("a", "b")):
    made = counted(given, kind, "y", names, True)
    return Table("t", [column("x", X)], made.codes, made.ranges, target=made.target)


def test_samples_may_lack_targets(tmp_path):
    written = write_dataset(tmp_path / "d", incomplete(), SPLITS)
    spec = read_manifest(tmp_path / "d").target
    assert spec == written.target
    assert spec.incomplete
    assert_allclose(spec.mean, np.nanmean(LACKING[:18], axis=0))
    assert_allclose(spec.std, np.nanstd(LACKING[:18], axis=0))
    stored = ShardReader(written).read(1, "train")
    found = to_samples(stored, written.inputs, torch.float64).targets
    assert_allclose(found, LACKING[10:18])
    assert len(list(verify(written))) == 1
    bad = stored._replace(target=np.full((8, 2), np.nan))
    assert "sample 0 has no target" in next(range_faults(bad, written))


def test_labels_may_be_unknown(tmp_path):
    labels = np.where(np.isnan(LACKING), np.nan, LACKING > 1)
    written = write_dataset(tmp_path / "d", incomplete("binary", labels), SPLITS)
    assert_allclose(written.target.mean, np.nanmean(labels[:18], axis=0))
    stored = ShardReader(written).read(0, "test")
    assert stored.target.dtype == np.uint8
    found = to_samples(stored, written.inputs, torch.float32).targets
    assert_allclose(found, labels[18:24])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda y: y.__setitem__(slice(0, 18), [np.nan, 1]),
            "sample has the target 'a'",
        ),
        (lambda y: y.__setitem__(3, np.inf), "'a' of sample 3 is inf"),
        (lambda y: y.__setitem__(4, np.nan), "sample 4 has no target"),
    ],
)
def test_what_may_not_be_lacking(tmp_path, change, said):
    given = LACKING.copy()
    change(given)
    table = replace(
        incomplete(), target=TargetValues("real", ("a", "b"), given, incomplete=True)
    )
    with pytest.raises(DataError, match=said):
        write_dataset(tmp_path / "d", table, SPLITS)


def test_only_known_keys_describe_what_is_lacking(tmp_path):
    write_dataset(tmp_path / "d", incomplete(), SPLITS)
    path = tmp_path / "d" / "manifest.json"
    tree, _ = strict_json.decode(path.read_bytes())
    assert tree["target"]["incomplete"] is True
    path.write_bytes(
        strict_json.encode(tree | {"target": tree["target"] | {"incomplete": 1}})
    )
    with pytest.raises(DataError, match="has or lacks the key 'incomplete'"):
        read_manifest(tmp_path / "d")


WEIGHTS = RNG.integers(1, 9, 30) / 4


def test_weights_are_read_as_they_were_written(tmp_path):
    written = write_dataset(tmp_path / "d", replace(table(), weights=WEIGHTS), SPLITS)
    assert written.weights
    assert written.schema_version == 2
    reader = ShardReader(written)
    for split, parts in SPLITS.items():
        for client, rows in enumerate(parts):
            stored = reader.read(client, split)
            assert (stored.weights == WEIGHTS[rows]).all()
            found = to_samples(stored, written.inputs, torch.float64).weights
            assert_allclose(found, WEIGHTS[rows] / WEIGHTS[rows].mean())
    assert len(list(verify(written))) == 1
    stored = reader.read(0, "train")
    bad = stored._replace(weights=np.array([1.0, -1, *[1.0] * 8]))
    assert "weight of sample 1 is -1.0" in next(range_faults(bad, written))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.zeros(30), "weight of sample 0 is 0.0, not above 0"),
        (np.full(30, np.nan), "weight of sample 0 is nan"),
        (np.full(30, 1e300), "at most 1e"),
        (np.ones(29), "one weight for each of 30 samples"),
        (np.ones(30, np.float32), "weights are float32, not float64"),
    ],
)
def test_weights_that_cannot_be(tmp_path, weights, said):
    with pytest.raises(DataError, match=said):
        write_dataset(tmp_path / "d", replace(table(), weights=weights), SPLITS)


def test_weights_of_a_manifest_are_there_or_not(tmp_path):
    write_dataset(tmp_path / "d", replace(table(), weights=WEIGHTS), SPLITS)
    path = tmp_path / "d" / "manifest.json"
    tree, _ = strict_json.decode(path.read_bytes())
    path.write_bytes(strict_json.encode(tree | {"weights": 1}))
    with pytest.raises(DataError, match="weights is 1, not true"):
        read_manifest(tmp_path / "d")
