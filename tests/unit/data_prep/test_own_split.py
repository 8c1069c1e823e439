"""A data set's own split is kept by default, by every source, and said to be."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.pipeline import plan
from data_prep.pipeline import prepare as prepare_data
from data_prep.sources import Source, sources
from data_prep.split_checks import groups_on_both_sides
from data_prep.writer import Sample, write_samples
from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.cli import prepare as prepare_command
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.preparation import command, everyone, prepare
from tests.unit.data_prep.test_leaf import MAKERS, write, write_split
from tests.unit.data_prep.test_sources import write_cifar, write_fashion

N = 40


def arrays(path, **more):
    """Write 4 clients of 10 samples, each with its own number as input."""
    found = {
        "x_number": np.arange(N)[:, None],
        "y": np.arange(N) % 2,
        "client": np.repeat(np.arange(4), N // 4),
    }
    np.savez(path, **(found | more))
    return path


def numbers(manifest):
    """Return split name to the sorted numbers of its samples."""
    return {
        split: sorted(n for held in clients for n in held.inputs["number"][:, 0])
        for split, clients in everyone(manifest).items()
    }


def test_the_arrays_own_split_is_kept_and_said(tmp_path, capsys):
    codes = np.tile([0, 0, 0, 0, 0, 0, 0, 1, 1, 2], 4)
    path = arrays(tmp_path / "made.npz", split=codes)
    manifest = prepare("arrays", path, tmp_path / "to")
    out = capsys.readouterr().out
    assert "split          the data set's own\n" in out
    assert "train          28 samples; of a client 7 to 7, median 7\n" in out
    assert "test           8 samples; of a client 2 to 2, median 2\n" in out
    assert "val            4 samples; of a client 1 to 1, median 1\n" in out
    assert numbers(manifest) == {
        name: np.flatnonzero(codes == code).tolist()
        for code, name in enumerate(("train", "test", "val"))
    }
    assert manifest.preparation["split"] == "own"
    command(inspect_command, tmp_path / "to")
    out = capsys.readouterr().out
    assert "client  name  0  1  train  test  val\n" in out
    assert "     3  3     4  3      7     2    1\n" in out
    explicit = prepare("arrays", path, tmp_path / "other", "split=own")
    assert explicit.sha256 == manifest.sha256


@pytest.mark.parametrize(
    "options",
    [
        ("partitioner=dirichlet", "clients=3", "partitioner.beta=1.0"),
        ("partitioner=iid", "clients=3"),
        ("partitioner=quantity-power", "clients=3"),
        ("partitioner=natural", "clients=2"),
    ],
)
def test_each_sample_keeps_its_mark_at_any_client(tmp_path, options):
    codes = (np.arange(N) % 4 == 3).astype(int)
    path = arrays(tmp_path / "made.npz", split=codes)
    found = numbers(prepare("arrays", path, tmp_path / "to", *options))
    assert found["test"] == np.flatnonzero(codes).tolist()
    assert found["train"] == np.flatnonzero(codes == 0).tolist()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "random, stratified, 20 % test (seed 0)"),
        (("test=0.3", "val=0.1", "seed=7"),
         "random, stratified, 30 % test, 10 % val (seed 7)"),
        (("split=official", "test=0.25"),
         "official (shuffled and cut, one sample of each client left out), "
         "25 % test (seed 0)"),
    ],
)  # fmt: skip
def test_other_splits_are_said_with_their_seed(tmp_path, capsys, options, line):
    prepare("arrays", arrays(tmp_path / "made.npz"), tmp_path / "to", *options)
    assert f"split          {line}\n" in capsys.readouterr().out
    command(inspect_command, tmp_path / "to")
    assert f"split          {line}\n" in capsys.readouterr().out


def test_a_random_split_in_place_of_the_own_one(tmp_path, capsys):
    path = arrays(tmp_path / "made.npz", split=np.tile([0, 1], N // 2))
    manifest = prepare("arrays", path, tmp_path / "to", "split=random", "test=0.1")
    assert "random, stratified, 10 % test (seed 0)" in capsys.readouterr().out
    assert manifest.counts["test"].tolist() == [1] * 4


@pytest.mark.parametrize("option", ["test=0.3", "val=0.1"])
def test_sizes_are_refused_where_a_split_is_given(tmp_path, option):
    path = arrays(tmp_path / "made.npz", split=np.tile([0, 1], N // 2))
    with pytest.raises(ConfigError, match=r"would have no effect, .* split=random"):
        prepare("arrays", path, tmp_path / "to", option)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros(N, int), r"no test samples \(40 train, 0 test, 0 val\)"),
        (np.ones(N, int), r"no training samples \(0 train, 40 test, 0 val\)"),
        (np.tile([0, 2], N // 2), r"no test samples \(20 train, 0 test, 20 val\)"),
        (np.full(N, 2), r"no training samples \(0 train, 0 test, 40 val\)"),
        (np.tile([1, 2], N // 2), r"no training samples \(0 train, 20 test, 20 val\)"),
    ],
)
def test_own_splits_that_lack_a_part(tmp_path, codes, message):
    path = arrays(tmp_path / "made.npz", split=codes)
    with pytest.raises(DataError, match=rf"made: its own split has {message}.*=random"):
        prepare("arrays", path, tmp_path / "to")
    assert prepare("arrays", path, tmp_path / "to", "split=random").num_clients == 4


def test_clients_without_test_samples_are_counted(tmp_path, capsys):
    codes = np.zeros(N, int)
    codes[[0, 1]] = 1
    path = arrays(tmp_path / "made.npz", split=codes)
    manifest = prepare("arrays", path, tmp_path / "to")
    assert manifest.counts["test"].tolist() == [2, 0, 0, 0]
    line = "test           2 samples; of a client 0 to 2, median 0; "
    assert f"{line}3 of 4 clients have none\n" in capsys.readouterr().out


def test_the_true_reason_for_clients_without_training_samples(tmp_path):
    codes = np.array([0] * 15 + [1] * 18 + [2] * 7)
    path = arrays(tmp_path / "made.npz", split=codes)
    message = (
        r"made: 2 \(client 2\) and 1 more have no training sample: the data set's own "
        r"split marks all 10 samples of client 2 as test, and"
    )
    with pytest.raises(DataError, match=message) as caught:
        prepare("arrays", path, tmp_path / "to")
    assert "split=random" in str(caught.value)
    assert "min_samples" not in str(caught.value)
    drawn = ("partitioner=dirichlet", "clients=18", "partitioner.min_samples=1",
             "partitioner.beta=0.1")  # fmt: skip
    with pytest.raises(DataError, match=r"set a larger partitioner\.min_samples"):
        prepare("arrays", path, tmp_path / "to", *drawn)
    mixed = arrays(tmp_path / "mixed.npz", split=np.repeat([0, 0, 1, 2], 10))
    with pytest.raises(DataError, match=r"client 2\) and 1 more have no training"):
        prepare("arrays", mixed, tmp_path / "to")


def test_published_splits_are_kept(tmp_path, capsys):
    (tmp_path / "fashion").mkdir()
    write_fashion(tmp_path / "fashion")
    write_cifar(tmp_path)
    for name, folder in (("cifar10", "."), ("fashion-mnist", "fashion")):
        source = sources.get(name)(tmp_path / folder)
        options = ("clients=2", "partitioner=iid")
        manifest = prepare(name, tmp_path / folder, tmp_path / f"to-{name}", *options)
        assert "the data set's own" in capsys.readouterr().out
        assert manifest.preparation["split"] == "own"
        sizes = np.bincount(source.split).tolist()
        assert [int(c.sum()) for c in manifest.counts.values()] == sizes


def own_source(path: Path) -> Source:
    """Read nothing, as a user's own source may."""
    return Source(
        Table("mine", [column("a", np.arange(8.0))], np.zeros(8, int), ("only",)),
        (),
        ids=np.repeat([0, 1], 4),
        id_names=("a", "b"),
        split=np.array([0, 0, 0, 1] * 2, np.int8),
    )


def test_a_users_own_source_keeps_its_split(tmp_path):
    wanted = plan("tests.unit.data_prep.test_own_split:own_source", {})
    manifest, _ = prepare_data(wanted, tmp_path, tmp_path / "to")
    assert manifest.counts["test"].tolist() == [1, 1]
    assert manifest.preparation["split"] == "own"


def test_samples_from_python_say_their_split(tmp_path, capsys):
    def samples(train):
        for client in range(2):
            for k in range(4):
                split = "train" if k < train or not client else "test"
                yield Sample(client, split, {"x": np.zeros(2, np.float32)}, k % 2)

    made = {"dataset": "mine", "classes": ["no", "yes"],
            "inputs": [InputSpec("x", (2,), "float32")]}  # fmt: skip
    write_samples(tmp_path / "a", samples(3), **made)
    command(inspect_command, tmp_path / "a")
    assert "split          as given by what wrote" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"1 \(client 1\) has no training.* 4 .*test"):
        write_samples(tmp_path / "b", samples(0), **made)


def test_groups_on_both_sides_are_counted(tmp_path, capsys):
    codes = np.array([0, 0, 1, 1, 0, 1, 2, 2, 0, 0])
    groups = np.array([7, 7, 7, 7, 3, 3, 3, 9, 5, 5])
    note = groups_on_both_sides(codes, groups)
    assert note.startswith("2 of 4 groups have samples on both sides")
    assert "4 of 5 test and val samples are of a group that is trained on" in note
    whole = np.array([0, 0, 0, 0, 1, 1, 1, 2, 0, 0])
    assert groups_on_both_sides(whole, groups) == ""
    path = arrays(
        tmp_path / "made.npz",
        split=np.tile([0, 1], N // 2),
        recording=np.arange(N) // 5,
    )
    prepare("arrays", path, tmp_path / "to", "group=recording")
    out = capsys.readouterr().out
    assert "note: 8 of 8 groups have samples on both sides" in out
    prepare("arrays", path, tmp_path / "random", "group=recording", "split=random")
    assert "note:" not in capsys.readouterr().out


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("given", ["data/train", "data/test", "data/all_data"])
def test_leaf_s_other_part_is_named(tmp_path, capsys, name, given):
    root = write_split(tmp_path / "leaf", MAKERS[name])
    users = {"f0000": MAKERS[name]("f0000", "train", 5)}
    write(root / "data/all_data/all_data.json", users)
    prepare(name, root / given, tmp_path / "to")
    out = capsys.readouterr().out
    others = {"data/train": "test next to train", "data/test": "train next to test",
              "data/all_data": "test and train next to all_data"}  # fmt: skip
    (note,) = [line for line in out.splitlines() if " next to " in line]
    assert note.startswith(f"note: {others[given]} in {root / 'data'} ")
    assert f"give {root / 'data'} to read both" in note
    assert "split          random, stratified, 20 % test (seed 0)" in out
    prepare(name, root / "data", tmp_path / "both")
    out = capsys.readouterr().out
    assert " next to " not in out
    assert "split          the data set's own" in out


def test_one_file_of_leaf_s_has_siblings_too(tmp_path):
    root = write_split(tmp_path, MAKERS["femnist"])
    (file, *_) = sorted((root / "data/train").glob("*.json"))
    (note,) = sources.get("femnist")(file).warnings
    assert "give" in note
    assert str(root / "data") in note
    alone = tmp_path / "alone" / "all_data.json"
    write(alone, {"f0000": MAKERS["femnist"]("f0000", "train", 5)})
    assert sources.get("femnist")(alone).warnings == ()


@pytest.mark.parametrize(
    ("name", "other", "noted"),
    [
        ("emg_train.npz", "emg_test.npz", True),
        ("Train.npz", "Val.npz", True),
        ("training-set.npz", "validation-set.npz", True),
        ("TRAIN.npz", "TEST.npz", True),
        ("train.npz", "training.npz", False),
        ("trains.npz", "tests.npz", False),
        ("mine.npz", "test.npz", False),
    ],
)
def test_arrays_in_several_files(tmp_path, name, other, noted):
    arrays(tmp_path / name)
    arrays(tmp_path / other)
    notes = sources.get("arrays")(tmp_path / name).warnings
    assert len(notes) == noted
    if noted:
        assert other in notes[0]
        assert "array 'split'" in notes[0]
    arrays(tmp_path / name, split=np.tile([0, 1], N // 2))
    assert sources.get("arrays")(tmp_path / name).warnings == ()


def test_the_list_says_how_each_source_is_split(capsys):
    command(prepare_command, "--list")
    lines = capsys.readouterr().out.splitlines()
    for name in sources.names():
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"  {name} ")]
        assert lines[at + 1].strip().startswith("split: ")
