"""Which files a saved data set has, and to which part they belong."""

import json

import pyarrow.parquet as pa_parquet
import pytest

from data_prep.sources._hf_files import find_saved
from fedapm_mpi.errors import DataError
from tests.support.data.saved_hf import FEATURES, save_dict, save_part, table

pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def parquet(folder, *names, made=None):
    made = table(range(2)) if made is None else made
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pa_parquet.write_table(made, folder / name)
    return folder


def parts(path, *wanted):
    saved = find_saved(path, wanted)
    return {name: [file.name for file in files] for name, files in saved.parts.items()}


def test_a_dictionary_of_parts(tmp_path):
    folder = save_dict(tmp_path / "s", {"train": range(3), "test": range(2)})
    found = find_saved(folder, ())
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert parts(folder) == {"train": names, "test": names}
    assert found.features == FEATURES
    read = {str(file.relative_to(folder)) for file in found.others}
    own = {f"{p}/{n}" for p in ("train", "test") for n in ("state.json",)}
    infos = {f"{p}/dataset_info.json" for p in ("train", "test")}
    assert read == {"dataset_dict.json"} | own | infos


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a.parquet", "b.parquet"], {"": 2}),
        (["train-00000-of-00001.parquet", "test.parquet"], {"train": 1, "test": 1}),
        (["data/train-0.parquet", "data/validation-0.parquet"], None),
        (["train/0000.parquet", "train/0001.parquet", "dev/0000.parquet"], None),
        (["mnist-train.parquet", "mnist_test.parquet"], {"train": 1, "test": 1}),
        (["train-test.parquet"], {"": 1}),
        ([".cache/x.parquet", "cache-1.parquet", "y.parquet"], {"": 1}),
    ],
)
def test_parts_by_name(tmp_path, names, wanted):
    found = parts(parquet(tmp_path, *names))
    if wanted is None:
        assert "train" in found
        assert len(found) == 2
    else:
        assert {name: len(files) for name, files in found.items()} == wanted


def test_parts_that_are_chosen_may_have_any_name(tmp_path):
    some = {"train": range(2), "extra": range(2), "test": range(2)}
    folder = save_dict(tmp_path / "s", some)
    with pytest.raises(DataError, match=r"the part 'extra', .* parts=\[train,test\]"):
        find_saved(folder, ())
    assert list(parts(folder, "train", "test")) == ["train", "test"]
    assert list(parts(folder, "extra")) == ["extra"]


def test_columns_of_all_files_agree(tmp_path):
    made = table(range(2))
    parquet(tmp_path, "train.parquet", made=made)
    parquet(tmp_path, "test.parquet", made=made.drop_columns(["age"]))
    with pytest.raises(DataError, match=r"other columns than .* \('age'\)"):
        find_saved(tmp_path, ())
    other = FEATURES | {"label": {"names": ["yes", "no"], "_type": "ClassLabel"}}
    parquet(tmp_path, "test.parquet", made=table(range(2), other))
    with pytest.raises(DataError, match="column 'label' is described otherwise"):
        find_saved(tmp_path, ())


def written(name, content):
    def make(folder):
        save_part(folder, table(range(2)), files=1)
        (folder / name).write_text(
            content if isinstance(content, str) else json.dumps(content)
        )

    return make


FAULTS = {
    "nothing": (lambda folder: folder.mkdir(), "is no saved data set: give a folder"),
    "absent": (lambda folder: None, "does not exist; give the saved data set"),
    "folders": (
        lambda folder: parquet(folder, "en/a.parquet", "fr/a.parquet"),
        "it has the folders en, fr",
    ),
    "kinds": (
        lambda folder: parquet(folder, "a.parquet", "b.arrow"),
        "files of several kinds .*; give files of one kind",
    ),
    "no part": (
        lambda folder: parquet(folder, "a.parquet", "train.parquet"),
        "a.parquet belongs to no part by its name, but train.parquet to train; name",
    ),
    "no JSON": (written("state.json", "{"), r"cannot read .*state.json \(.*; save"),
    "no mapping": (written("state.json", []), "state.json holds no mapping; save"),
    "no files": (written("state.json", {}), "state.json lists no files; save"),
    "elsewhere": (
        written("state.json", {"_data_files": [{"filename": "../a.arrow"}]}),
        "lists no files",
    ),
    "lacking": (
        written("state.json", {"_data_files": [{"filename": "a.arrow"}]}),
        "lacks a.arrow, which its state.json lists; copy it again",
    ),
    "an index": (
        written("state.json", {"_indices_data_files": [{"filename": "i.arrow"}]}),
        r"call flatten_indices\(\) and save it again",
    ),
    "no splits": (
        written("dataset_dict.json", {"splits": []}),
        "dataset_dict.json lists no splits; save",
    ),
    "no state": (
        written("dataset_dict.json", {"splits": ["train"]}),
        "train has no state.json; save the data set again",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_saved_data_set(tmp_path, name):
    make, message = FAULTS[name]
    make(tmp_path / "s")
    with pytest.raises(DataError, match=message):
        find_saved(tmp_path / "s", ())
