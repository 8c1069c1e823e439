"""Images in folders train, test and val are split already, and stay so."""

import csv

import numpy as np
import pytest

from data_prep.sources import sources
from fedapm_mpi.errors import DataError
from tests.support.preparation import prepare

Image = pytest.importorskip("PIL.Image")


def save_image(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (9, 9, 9)).save(file)


def split_folder(root, parts=("train", "test", "val"), sizes=(6, 3, 2)):
    """Write PART/CLASS/NAME.png: class dog has one more in each part."""
    for part, size in zip(parts, sizes, strict=True):
        for more, name in enumerate(("cat", "dog")):
            for k in range(size + more):
                save_image(root / part / name / f"{k}.png")
    return root


def read(root, **options):
    return sources.get("image-folder")(root, size=4, **options)


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        (("train", "test", "val"), [13, 7, 5]),
        (("Training", "Testing", "Validation"), [13, 7, 5]),
        (("train", "test", "dev"), [13, 7, 5]),
    ],
)
def test_parts_are_the_split_and_no_classes(tmp_path, capsys, parts, sizes):
    root = split_folder(tmp_path / "pets", parts)
    manifest = prepare("image_folder", root, tmp_path / "to", "size=4", "clients=2",
                       "partitioner=iid")  # fmt: skip
    assert manifest.classes == ("cat", "dog")
    assert [int(c.sum()) for c in manifest.counts.values()] == sizes
    counts = {s: c.sum(axis=0).tolist() for s, c in manifest.label_counts.items()}
    assert counts == {"train": [6, 7], "test": [3, 4], "val": [2, 3]}
    assert "split          the data set's own" in capsys.readouterr().out
    pooled = prepare("image_folder", root, tmp_path / "pooled", "size=4", "clients=2",
                     "partitioner=iid", "split=random")  # fmt: skip
    assert pooled.classes == ("cat", "dog")
    assert sum(c.sum() for c in pooled.counts.values()) == 25


def test_a_part_alone_names_its_siblings(tmp_path):
    root = split_folder(tmp_path / "pets")
    source = read(root / "train")
    assert source.split is None
    assert source.table.classes == ("cat", "dog")
    (note,) = source.warnings
    assert "test and val next to train" in note
    assert f"give {root}" in note
    alone = split_folder(tmp_path / "alone", ("train",), (5,))
    source = read(alone)
    assert (source.split, source.warnings) == (None, ())
    assert source.table.classes == ("cat", "dog")


def test_classes_that_are_called_like_parts_stay_classes(tmp_path):
    for name in ("bus", "train", "car"):
        save_image(tmp_path / name / "1.png")
    source = read(tmp_path)
    assert source.table.classes == ("bus", "car", "train")
    assert source.split is None
    for name in ("val", "valid"):  # two words for one part are no split
        save_image(tmp_path / "other" / name / "1.png")
    assert read(tmp_path / "other").table.classes == ("val", "valid")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("train/1.png", r"1\.png lies in no folder of a class: test, train are taken"),
        ("other/cat/1.png", "are taken for the parts of a split, but there is other"),
        ("test/bird/1.txt", "test/bird holds no images"),
    ],
)
def test_folders_that_are_neither(tmp_path, more, message):
    root = split_folder(tmp_path / "pets", ("train", "test"), (2, 2))
    (root / more).parent.mkdir(parents=True, exist_ok=True)
    if more.endswith("png"):
        save_image(root / more)
    with pytest.raises(DataError, match=message):
        read(root)


@pytest.mark.parametrize("column", [None, "right", "wrong"])
def test_a_table_together_with_parts(tmp_path, column):
    root = split_folder(tmp_path / "pets", ("train", "test"), (3, 1))
    names = sorted(f.relative_to(root).as_posix() for f in root.rglob("*.png"))
    with (root / "owners.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "client", *(["split"] if column else [])])
        for k, name in enumerate(names):
            part = name.split("/")[0] if column == "right" else "train"
            writer.writerow([name, f"c{k % 2}", *([part] if column else [])])
    if column == "wrong":
        with pytest.raises(DataError, match=r"test/cat/0\.png as train \(3 of"):
            read(root, table="owners.csv")
        return
    source = read(root, table="owners.csv")
    assert source.default_split == "own"
    assert source.id_names == ("c0", "c1")
    assert np.bincount(source.split).tolist() == [7, 3]


@pytest.mark.parametrize("split", [False, True])
def test_parts_with_a_part_whose_table_has_a_split(tmp_path, split):
    """The table decides: there is nothing to ask then."""
    root = split_folder(tmp_path / "pets", ("train", "test"), (1, 1)) / "train"
    more = [",train", ",test", ",train"] if split else [""] * 3
    names = ("cat/0.png", "dog/0.png", "dog/1.png")
    lines = [f"{name},c{part}\n" for name, part in zip(names, more, strict=True)]
    head = "file,client" + ",split" * split
    (root / "owners.csv").write_text("".join([f"{head}\n", *lines]))
    source = read(root, table="owners.csv")
    assert (source.split is None) == (not split)
    assert bool(source.warnings) == (not split)
