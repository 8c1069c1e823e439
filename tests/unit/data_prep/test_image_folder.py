"""Folders of images with a table of clients become shards."""

import csv
import sys

import numpy as np
import pytest

from data_prep.sources import sources
from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.training.runner import train
from tests.support.preparation import command, everyone, prepare
from tests.support.processes.cli_runs import experiment

Image = pytest.importorskip("PIL.Image")

OWNERS = ("ann", "bob", "eve")


def plain(colour, size=(10, 6), mode="RGB"):
    return Image.new(mode, size, colour)


@pytest.fixture
def folder(tmp_path):
    """Thirty images of one colour each, of two classes and three owners."""
    root = tmp_path / "pets"
    lines = []
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for k in range(15):
            file = root / name / f"{k:02d}.png"
            plain((10 * k, 100 * label, 7)).save(file)
            lines.append([f"{name}/{file.name}", OWNERS[k % 3]])
    (root / "notes.txt").write_text("no image")
    write_table(root, lines)
    return root


def write_table(root, lines, header=("file", "client")):
    with (root / "owners.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])


def lines_of(root):
    with (root / "owners.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def read(root, **options):
    return sources.get("image-folder")(root, **options)


def test_classes_clients_and_pixels(folder, tmp_path):
    manifest = prepare("image_folder", folder, tmp_path / "to", "size=4",
                       "table=owners.csv")  # fmt: skip
    assert manifest.dataset == "pets"
    assert manifest.classes == ("cat", "dog")
    assert manifest.client_names == OWNERS
    assert manifest.inputs[0].shape == (3, 4, 4)
    seen = []
    for clients in everyone(manifest).values():
        for client, held in enumerate(clients):
            for label, image in zip(held.labels, held.inputs["image"], strict=True):
                red, green, blue = (np.unique(channel) for channel in image)
                assert (blue.item(), green.item()) == (7, 100 * label)
                assert red.item() // 10 % 3 == client
                seen.append((int(label), red.item() // 10))
    assert sorted(seen) == [(label, k) for label in range(2) for k in range(15)]


def test_without_a_table_there_are_no_clients(folder, tmp_path):
    with pytest.raises(ConfigError, match="names no clients"):
        prepare("image-folder", folder, tmp_path / "to")
    manifest = prepare("image-folder", folder, tmp_path / "to", "partitioner=iid",
                       "clients=5", "colours=grey")  # fmt: skip
    assert manifest.inputs[0].shape == (1, 32, 32)
    assert manifest.num_clients == 5


def test_clients_by_several_columns(folder):
    lines = [
        [file, owner, "ab"[k % 2]] for k, (file, owner) in enumerate(lines_of(folder))
    ]
    write_table(folder, lines, ("file", "client", "room"))
    found = read(folder, table="owners.csv", client=("client", "room"))
    assert found.id_names == tuple(
        f"{owner} / {room}" for owner in OWNERS for room in "ab"
    )
    of_file = {file: f"{owner} / {room}" for file, owner, room in lines}
    names = [f"{path.parent.name}/{path.name}" for path in found.files[1:]]
    assert [found.id_names[k] for k in found.ids] == [of_file[name] for name in names]
    assert not any("room" in warning for warning in found.warnings)
    lines[3][2] = ""
    write_table(folder, lines, ("file", "client", "room"))
    with pytest.raises(DataError, match=r"owners.csv, line 5: .* has no room"):
        read(folder, table="owners.csv", client=("client", "room"))
    with pytest.raises(ConfigError, match="client names no column"):
        read(folder, table="owners.csv", client=())


def test_own_split_is_kept(folder, tmp_path):
    lines = [[*line, ("train", "test", "val")[i % 5 % 3]]
             for i, line in enumerate(lines_of(folder))]  # fmt: skip
    write_table(folder, lines, ("file", "client", "split"))
    manifest = prepare("image-folder", folder, tmp_path / "to", "table=owners.csv")
    totals = {split: counts.sum() for split, counts in manifest.counts.items()}
    assert totals == {"train": 12, "test": 12, "val": 6}
    again = prepare("image-folder", folder, tmp_path / "other", "table=owners.csv",
                    "split=random")  # fmt: skip
    assert again.counts["train"].sum() == 24


def test_a_csv_writes_its_split_as_arrays_may(folder, tmp_path):
    lines = lines_of(folder)
    for k, line in enumerate(lines):
        line.append(["Train", "1", " TEST", "validation"][k % 4])
    write_table(folder, lines, ("file", "client", "split"))
    split = read(folder, table="owners.csv").split
    order = [line[0] for line in sorted(lines)]
    assert order == [line[0] for line in lines]
    assert split.tolist() == [[0, 1, 1, 2][k % 4] for k in range(30)]


def test_kinds_of_images(tmp_path):
    """Grey, palette, transparent and turned ones, whatever the case of the suffix."""
    root = tmp_path / "kinds"
    (root / "a" / "deeper").mkdir(parents=True)
    plain(99, mode="L").save(root / "a" / "1.PNG")
    plain((204, 0, 0)).convert("P").save(root / "a" / "2.png")
    plain((0, 50, 0, 128), mode="RGBA").save(root / "a" / "3.png")
    plain((1, 2, 3)).save(root / "a" / "deeper" / "4.bmp")
    # EXIF 6: what is stored at the left is to be seen at the top.
    turned = Image.new("RGB", (8, 8), (0, 0, 0))
    turned.paste((255, 255, 255), (0, 0, 4, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(root / "a" / "5.png", exif=exif)
    x = read(root, size=8).table.columns[0].fetch(np.arange(5))
    assert np.unique(x[0]).tolist() == [99]
    assert x[1][:, 0, 0].tolist() == [204, 0, 0]
    assert x[2][:, 0, 0].tolist() == [0, 50, 0]
    assert x[4][:, 0, 0].tolist() == [1, 2, 3]
    assert (x[3][:, :4] == 255).all()
    assert (x[3][:, 4:] == 0).all()


def test_a_broken_image_is_reported_or_left_out_and_counted(folder, tmp_path, capsys):
    whole = (folder / "cat" / "03.png").read_bytes()
    (folder / "cat" / "03.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "05.png").write_text("no image")
    with pytest.raises(DataError, match=r"cat/03.png does not decode"):
        read(folder, table="owners.csv")
    manifest = prepare("image-folder", folder, tmp_path / "to", "table=owners.csv",
                       "skip_broken=true")  # fmt: skip
    assert manifest.preparation["skipped"] == ["cat/03.png", "dog/05.png"]
    assert sum(counts.sum() for counts in manifest.counts.values()) == 28
    held = everyone(manifest)
    reds = [int(image[0, 0, 0]) // 10 for clients in held.values() for one in clients
            for image in one.inputs["image"]]  # fmt: skip
    assert sorted(reds) == sorted([k for k in range(15) if k != 3]
                                  + [k for k in range(15) if k != 5])  # fmt: skip
    capsys.readouterr()
    command(inspect_command, tmp_path / "to")
    out = capsys.readouterr().out
    assert "left out       2 broken samples: cat/03.png, dog/05.png" in out
    for file in folder.rglob("*.png"):
        file.write_text("no image")
    with pytest.raises(DataError, match="none of the 30 images decodes"):
        read(folder, skip_broken=True)


@pytest.mark.parametrize(
    ("change", "header", "message"),
    [
        (lambda lines: lines.pop(), None, "dog/14.png is not in the table"),
        (
            lambda lines: lines.append(["dog/99.png", "ann"]),
            None,
            "99.png is not there",
        ),
        (lambda lines: lines.append(lines[0]), None, "line 32: cat/00.png .* before"),
        (lambda lines: lines[4].__setitem__(1, ""), None, "line 6: .* has no client"),
        (lambda lines: None, ("file", "clients"), "no column 'client'; did you mean"),
        (lambda lines: None, ("path", "client"), "no column 'file'"),
        (
            lambda lines: [line.append("tset") for line in lines],
            ("file", "client", "split"),
            "line 2: split must be one of train, test, val, not 'tset'",
        ),
        (lambda lines: None, ("file;client",), "separate columns by commas"),
    ],
)
def test_tables_that_do_not_fit(folder, change, header, message):
    lines = lines_of(folder)
    change(lines)
    write_table(folder, lines, header or ("file", "client"))
    with pytest.raises(DataError, match=message):
        read(folder, table="owners.csv")


def test_a_table_elsewhere_with_a_column_of_another_name(folder, tmp_path):
    moved = tmp_path / "elsewhere.csv"
    (folder / "owners.csv").rename(moved)
    # As spreadsheets write it, with a mark of its encoding.
    moved.write_text(
        "\ufeff" + moved.read_text().replace("file,client", "file,owner"), "utf-8"
    )
    source = read(folder, table=str(moved), client="owner")
    assert source.id_names == OWNERS
    with pytest.raises(DataError, match="cannot read the table"):
        read(folder, table="nowhere.csv")


def test_folders_that_hold_no_images(folder, tmp_path):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        read(folder)
    for path in (tmp_path / "nowhere", folder / "cat"):
        with pytest.raises(DataError, match="holds no images"):
            read(path)
    (folder / "empty").rmdir()
    (folder / ".thumbnails").mkdir()
    assert read(folder).table.classes == ("cat", "dog")


def test_what_is_asked_for_is_checked(folder, monkeypatch):
    with pytest.raises(ConfigError, match="size must be at least 1"):
        read(folder, size=0)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r"fedapm-mpi\[vision\]"):
        read(folder)


def test_very_many_files_are_summed_up(tmp_path):
    for k in range(101):
        file = tmp_path / "many" / "ab"[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        plain((k, 0, 0), (2, 2)).save(file)
    words = ("size=2", "partitioner=iid", "clients=4")
    first = prepare("image-folder", tmp_path / "many", tmp_path / "a", *words)
    assert [file["name"] for file in first.preparation["files"]] == ["101 files"]
    plain((9, 9, 9), (2, 2)).save(tmp_path / "many" / "a" / "0.png")
    with pytest.raises(DataError, match="differ in: files"):
        prepare("image-folder", tmp_path / "many", tmp_path / "a", *words)


def test_trains(folder, tmp_path):
    prepare("image-folder", folder, tmp_path / "to", "table=owners.csv", "size=8")
    config = validate(experiment(tmp_path / "to", rounds=2), "test")
    assert train(Serial(), config, directory=tmp_path / "run", progress="none") == 0
