"""What a manifest cannot say: each key's type and bounds."""

import copy

import numpy as np
import pytest

from fedapm_mpi.data.manifest import MANIFEST, read_manifest
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import strict_json


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rng = np.random.default_rng(3)
    x = column("x", rng.normal(size=(24, 5, 2)), lengths=rng.integers(1, 6, 24))
    table = Table("t", [x, column("n", np.arange(24))], np.arange(24) % 2, ["a", "b"])
    rows = np.arange(24).reshape(4, 6)
    splits = {"train": list(rows[:, :4]), "test": list(rows[:, 4:])}
    directory = tmp_path_factory.mktemp("made")
    write_dataset(
        directory, table, splits, shards=2, partitioner={"name": "p"},
        preparation={"shift": [{"name": "s", "k": 1}], "skipped": ["f"], "seed": 0},
    )  # fmt: skip
    tree, sealed = strict_json.decode((directory / MANIFEST).read_bytes())
    assert sealed
    return directory, tree


@pytest.fixture
def read(made, monkeypatch):
    """What reads a manifest of the given bytes."""

    def act(raw):
        monkeypatch.setattr("fedapm_mpi.data.manifest._raw", lambda path: raw)
        return read_manifest(made[0])

    return act


def refused(read, raw, match=""):
    with pytest.raises(DataError, match=match) as caught:
        read(raw)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["files", 0, "name"], "a\0b", "is not a file name"),
        (["files", 0, "name"], "../x", "is not a file name"),
        (["files", 0, "clients"], [0, 2, 3], "should begin with client"),
        (["files", 0, "clients"], [0, 10**6], "should begin with client 1000000"),
        (["files", 0, "bytes"], "7", "bytes of a file is '7', not an integer"),
        (["files", 0, "bytes"], 0, "not an integer from 1 on"),
        (["files", 0, "sha256"], "A" * 64, "is no SHA-256"),
        (["inputs", 0, "scale"], "1", "scale of input 'x' is '1', not a finite"),
        (["inputs", 0, "scale"], float("inf"), "scale of input 'x' is inf"),
        (["inputs", 0, "shift"], float("nan"), "shift of input 'x' is nan"),
        (["inputs", 0, "shift"], 10**400, r"shift of input 'x' is 10+… \(401 char"),
        (["inputs", 0, "ragged"], 1, "ragged of input 'x' is 1"),
        (["inputs", 0, "dtype"], "i4,i4", "has the type 'i4,i4'"),
        (["inputs", 0, "dtype"], "complex64", "has the type 'complex64'"),
        (["inputs", 0, "shape"], [2**40, 2**40], "a product of at most"),
        (["inputs", 0, "shape"], [1.5], "has 1.5, not an integer"),
        (["inputs", 0, "name"], "a/b", "a name without '/'"),
        (["inputs", 0, "name"], "..", "a name without '/'"),
        (["inputs", 0, "name"], "\ud800", "not a valid manifest"),
        (["num_clients"], True, "num_clients is true, not an integer"),
        (["num_clients"], 10**18, "4 client names for"),
        (
            ["counts", "train"],
            [1, 2, 3.5, 4],
            "counts of train has 3.5, not an integer",
        ),
        (["counts", "train"], [2**63] * 4, "too large|too big"),
        (["counts", "train"], [2**62] * 4, "beyond any number of samples"),
        (["label_counts", "train"], [[2**63 - 1, 5]] * 4, "beyond any number"),
        (["counts", "train", 0], "4", "counts of train has '4', not an integer"),
        (["splits"], ["train", "test", "test"], "splits repeat"),
        (["classes"], "ab", "classes is 'ab', not a list"),
        (["classes", 0], None, "one of classes is null, not a text"),
        (["seed"], "0", "seed is '0', not an integer"),
        (
            ["preparation", "shift"],
            {"a": 1},
            r"preparation is \{'a': 1\}, not a list",
        ),
        (["partitioner"], [], r"partitioner is \[\], not an object"),
        (["preparation", "x"], [{"\ud800": 1}], "not a valid manifest"),
        (["preparation", "x"], [{"y": "\ud800"}], "not a valid manifest"),
        (["lacking"], {"x": [0.0]}, "lacking has 0.0, not an integer"),
    ],
)
def test_what_a_manifest_cannot_say(made, read, path, value, words):
    tree = copy.deepcopy(made[1])
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    refused(read, strict_json.encode(tree), words)


def test_nested_preparations_are_bounded(made, read):
    """What is read is sent to other ranks and written again."""
    tree = copy.deepcopy(made[1])
    deep = []
    for _ in range(200):
        deep = [deep]
    tree["preparation"]["x"] = deep
    refused(read, strict_json.encode(tree), "nested more than 32 levels deep")
