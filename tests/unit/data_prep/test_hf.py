"""Data sets of the library ``datasets``, in its own layout, to shards."""

import numpy as np
import pyarrow as pa
import pytest

from data_prep.table_encoding import input_names
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.data.saved_hf import (
    CLASSES,
    FEATURES,
    PARTS,
    SCHEMA,
    pixels,
    png,
    row,
    save_dict,
    save_parquet,
    save_part,
    table,
)
from tests.support.preparation import everyone, prepare

pytest.importorskip("PIL.Image", reason="Pillow is not installed")

ROLES = ("client=who", "scale=none")


def check(manifest):
    """Compare every sample with the row that it was made of."""
    assert manifest.classes == tuple(CLASSES)
    assert manifest.client_names == ("0", "1", "2")
    assert [spec.name for spec in manifest.inputs] == ["x", "image", "steps", "grid"]
    assert input_names(manifest.encoding) == ["age", "town=a", "town=b"]
    image = manifest.inputs[1]
    assert (image.shape, image.dtype, image.shift) == ((3, 5, 4), "uint8", -1)
    seen = {}
    for split, clients in everyone(manifest).items():
        for client, arrays in enumerate(clients):
            x = arrays.inputs["x"]
            for place, k in enumerate((x[:, 0] - 0.5).astype(int).tolist()):
                assert k % 3 == client
                assert x[place, 1:].tolist() == [k % 2 == 0, k % 2 == 1]
                assert arrays.labels[place] == row(k)["label"]
                own = arrays.inputs["image"][place]
                assert (own == pixels(k).transpose(2, 0, 1)).all()
                length = arrays.lengths["steps"][place]
                assert arrays.inputs["steps"][place, :length].tolist() == [
                    k
                ] * (1 + k % 3)  # fmt: skip
                assert arrays.inputs["grid"][place].tolist() == row(k)["grid"]
                seen[k] = split
    return seen


@pytest.mark.parametrize("save", [save_dict, save_parquet])
def test_parts_are_the_split(tmp_path, save):
    seen = check(prepare("hf", save(tmp_path / "s"), tmp_path / "d", *ROLES))
    names = {"train": "train", "test": "test", "validation": "val"}
    assert seen == {k: names[part] for part, rows in PARTS.items() for k in rows}


def test_what_the_library_saves_is_read_the_same(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows = [row(k) for k in range(42)]
    kinds = datasets.Features.from_dict(FEATURES)
    made = {
        name: datasets.Dataset.from_list([rows[k] for k in part], features=kinds)
        for name, part in PARTS.items()
    }
    datasets.DatasetDict(made).save_to_disk(tmp_path / "real")
    real = prepare("hf", tmp_path / "real", tmp_path / "a", *ROLES)
    check(real)
    ours = prepare("hf", save_dict(tmp_path / "ours"), tmp_path / "b", *ROLES)
    for split, clients in everyone(real).items():
        for one, other in zip(clients, everyone(ours)[split], strict=True):
            assert all((one.inputs[k] == other.inputs[k]).all() for k in one.inputs)
    moved = made["train"].select(range(5, 20)).shuffle(seed=1)
    moved.save_to_disk(tmp_path / "part", num_shards=2)
    assert len(check(prepare("hf", tmp_path / "part", tmp_path / "c", *ROLES))) == 15


def test_one_part_is_split_at_random(tmp_path):
    folder = save_part(tmp_path / "s", table(range(30)))
    whole = check(prepare("hf", folder, tmp_path / "a", *ROLES, "test=0.3"))
    assert len(whole) == 30
    assert set(whole.values()) == {"train", "test"}
    chosen = save_dict(tmp_path / "t")
    some = check(prepare("hf", chosen, tmp_path / "b", *ROLES, "parts=[train]"))
    assert sorted(some) == list(PARTS["train"])
    both = check(prepare("hf", chosen, tmp_path / "c", *ROLES, "parts=[test,train]"))
    assert len(both) == 36


def test_roles_and_images_on_request(tmp_path):
    folder = save_part(tmp_path / "s", table(range(30)))
    manifest = prepare(
        "hf", folder, tmp_path / "d", "target=age", "client=label", "group=who",
        "inputs=[image,town]", "size=3", "colours=grey",
    )  # fmt: skip
    assert manifest.client_names == ("no", "yes")
    assert manifest.target.kind == "real"
    assert [spec.shape for spec in manifest.inputs] == [(2,), (1, 3, 3)]


def test_clients_by_several_columns(tmp_path):
    folder = save_part(tmp_path / "s", table(range(30)))
    manifest = prepare(
        "hf", folder, tmp_path / "d", "target=age", "client=[label,who]",
        "inputs=[town]",
    )  # fmt: skip
    assert manifest.client_names[0] == "no / 0"
    assert list(manifest.client_names) == sorted(manifest.client_names)


def test_flat_columns_are_those_of_the_table(tmp_path):
    flat = table(range(30)).select(["label", "age", "town", "who"])
    folder = save_part(tmp_path / "s", flat)
    named = pa.array([CLASSES[k] for k in flat["label"].to_pylist()])
    pa.parquet.write_table(flat.set_column(0, "label", named), tmp_path / "t.parquet")
    options = ("client=who", "target=town")
    one = prepare("hf", folder, tmp_path / "a", *options)
    two = prepare("table", tmp_path / "t.parquet", tmp_path / "b", *options)
    assert one.encoding == two.encoding
    for split, clients in everyone(one).items():
        for mine, theirs in zip(clients, everyone(two)[split], strict=True):
            assert (mine.inputs["x"] == theirs.inputs["x"]).all()


def test_without_descriptions_columns_are_what_they_look_like(tmp_path):
    folder = save_parquet(tmp_path / "s", features=None)
    manifest = prepare("hf", folder, tmp_path / "d", *ROLES)
    assert manifest.classes == ("0", "2")
    assert [spec.name for spec in manifest.inputs] == ["x", "image", "steps", "grid"]


def test_transparent_images_are_reported(tmp_path, capsys):
    held = np.dstack([pixels(0), np.zeros((5, 4), np.uint8)])
    rows = [row(k) for k in range(12)]
    rows[3]["image"]["bytes"] = png(held)
    made = pa.Table.from_pylist(rows, schema=SCHEMA)
    folder = save_part(tmp_path / "s", made)
    prepare("hf", folder, tmp_path / "d", *ROLES)
    shown = capsys.readouterr()
    assert "1 of 12 images (first" in shown.out + shown.err
    assert "transparent pixels" in shown.out + shown.err


def edited(change):
    """Return a function that saves rows after a change to the fourth."""

    def save(folder):
        rows = [row(k) for k in range(12)]
        change(rows[3])
        made = pa.Table.from_pylist(rows, schema=SCHEMA)
        metadata = table(range(1)).schema.metadata
        return save_part(folder, made.replace_schema_metadata(metadata), files=1)

    return save


def one_part(folder):
    return save_part(folder, table(range(12)), files=1)


def unusual(folder):
    made = table(range(12)).append_column("sound", pa.array([{"a": 1}] * 12))
    return save_part(folder, made, files=1)


PLACE = r"data-00000-of-00001.arrow, row 3: "
FAULTS = {
    "no target": (one_part, ("target=lable",), "no column 'lable' .target.; did you"),
    "no label": (
        edited(lambda one: one.update(label=-1)),
        (),
        PLACE + "the target 'label' has no value there",
    ),
    "no such class": (
        edited(lambda one: one.update(label=7)),
        (),
        "column 'label' has the class 7, but its classes are 0 to 2; save",
    ),
    "no number": (
        edited(lambda one: one.update(age=None)),
        (),
        PLACE + "column 'age' has no value there; set missing=median",
    ),
    "no image": (
        edited(lambda one: one.update(image={"bytes": None, "path": "a.png"})),
        (),
        PLACE + "column 'image' has no bytes of an image; save",
    ),
    "damaged": (
        edited(lambda one: one["image"].update(bytes=b"no image")),
        (),
        PLACE + "column 'image' does not decode .*; leave the row out",
    ),
    "larger": (
        edited(lambda one: one["image"].update(bytes=png(np.zeros((9, 9), np.uint8)))),
        (),
        PLACE + "'image' has 9 x 9 pixels, earlier images 4 x 5; set size=N",
    ),
    "no list": (
        edited(lambda one: one.update(steps=None)),
        (),
        PLACE + r"column 'steps' has no value; leave .*, or drop=\[steps\]",
    ),
    "an empty list": (
        edited(lambda one: one.update(steps=[])),
        (),
        PLACE + r"'steps' has shape \(0,\), so there are no numbers; leave",
    ),
    "no rectangle": (
        edited(lambda one: one.update(grid=[[1], [1, 2]])),
        (),
        PLACE + "column 'grid' has lists of 1 and 2 entries within",
    ),
    "an image as target": (one_part, ("target=image",), "'image' has images, which"),
    "a list as client": (one_part, ("client=steps",), "'steps' has arrays, which can"),
    "a mapping": (unusual, (), r"column 'sound' is struct<a: int64>; .* drop=\[sound"),
    "two splits": (
        save_dict,
        ("split_column=town",),
        "has parts of its own .*; leave split_column out",
    ),
    "no part": (save_dict, ("parts=[tets]",), "no part 'tets' .parts.; did you mean"),
    "no size": (one_part, ("size=0",), "size must be at least 1, got 0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_named(tmp_path, name):
    save, options, message = FAULTS[name]
    folder = save(tmp_path / "s")
    with pytest.raises((DataError, ConfigError), match=message):
        prepare("hf", folder, tmp_path / "d", "client=who", *options)
    assert not (tmp_path / "d").exists()


def test_the_target_must_be_named_where_it_is_not_clear(tmp_path):
    made = table(range(12)).drop_columns(["label"])
    with pytest.raises(DataError, match="none has some; name it with target=COLUMN"):
        prepare("hf", save_part(tmp_path / "a", made), tmp_path / "d", "client=who")
    names = [f"{name}s" if name == "label" else name for name in SCHEMA.names]
    features = {("labels" if k == "label" else k): v for k, v in FEATURES.items()} | {
        "who": {"names": list("abc"), "_type": "ClassLabel"}
    }
    metadata = table(range(1), features).schema.metadata
    made = table(range(12)).rename_columns(names).replace_schema_metadata(metadata)
    with pytest.raises(DataError, match=r"several have classes \(labels, who\)"):
        prepare("hf", save_part(tmp_path / "b", made), tmp_path / "e", "client=who")
