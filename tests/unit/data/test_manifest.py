"""Foreign manifests: read, or refused in a sentence."""

import copy
import dataclasses
import json
import random

import numpy as np
import pytest

from fedapm_mpi.cli.inspect import client_table, overview
from fedapm_mpi.data.manifest import MANIFEST, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import strict_json

CHANGES = 600
ODD = [
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53, 2**62, 2**63 - 1, 2**63, 10**400,
    -(2**63), 1.0, 1.5, -0.0, 1e308, float("inf"), float("nan"), "", "1", "0", "x",
    "a/b", "..", ".", "\0", "\n", "\x1b[31m", "x" * 5000, "é", "\ud800", "float32",
    "object", [], {}, [[]], [1], [1, 2], ["a"], [None], {"name": "x"}, {"x": 1},
    [[0, 1]], [2**62, 2**62], {"name": 1}, [{"name": "x"}], "train", "test", "val",
]  # fmt: skip


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


def mutated(rng, tree):
    """Return a tree with a few of its nodes replaced, left out or there once more."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        node, key = {"": tree}, ""
        while isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
            node = node[key]
            key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        match rng.randrange(4):
            case 0 if key != "":
                del node[key]
            case 1 if isinstance(node, list):
                node.insert(key, copy.deepcopy(rng.choice((node[key], *ODD))))
            case 2 if isinstance(node, dict) and key != "":
                node[str(rng.choice(ODD))[:50]] = node[key]
            case _:
                node[key] = copy.deepcopy(rng.choice(ODD))
        if not isinstance(tree, dict):
            break
    return tree


@pytest.mark.parametrize("old", [False, True])
def test_random_changes_are_refused_or_can_be_used(made, read, old):
    directory, tree = made
    rng, accepted = random.Random(5), 0
    if old:
        tree = copy.deepcopy(tree)
        for file in tree["files"]:
            del file["block_bytes"], file["block_sums"]
    for _ in range(CHANGES):
        changed = mutated(rng, tree)
        raw = json.dumps(changed).encode() if old else strict_json.encode(changed)
        try:
            manifest = read(raw)
            accepted += 1
            ShardReader(manifest).check(range(manifest.num_clients))
        except DataError as error:
            assert str(directory) in str(error)  # noqa: PT017
            assert len(str(error)) < 900  # noqa: PT017
            continue
        (overview(manifest) + client_table(manifest)).encode()
    assert 10 < accepted < CHANGES / 2


def test_inspect_shows_what_any_program_wrote_of_a_preparation(made, read):
    """Of any type and length: a manifest keeps it for people to read."""
    for key, value in (
        ("split", [1]),
        ("split", {"a": 1}),
        ("test", "x"),
        ("test", 10**400),
        ("val", {"a": 1}),
        ("shift", [{"name": "x" * 100_000}]),
    ):
        tree = copy.deepcopy(made[1])
        tree["preparation"] = {"split": "random", "test": 0.2, key: value}
        shown = overview(read(strict_json.encode(tree)))
        assert "split          " in shown
        assert max(map(len, shown.splitlines())) <= 2000


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not valid JSON|limit"),
        (b"\xff\xfe{\x00}\x00", "not valid JSON"),
        (b'\xef\xbb\xbf{"schema_version": 1}', "not valid JSON"),
        (b"null", "it is null, not an object"),
        (b"", "not valid JSON"),
        (b'{"schema_version": 1, "schema_version": 1}', "'schema_version' is given tw"),
        (b'{"schema_version": true}', "schema version true"),
        (b'{"schema_version": 1.0}', "schema version 1.0"),
    ],
)
def test_what_is_no_manifest(read, raw, words):
    refused(read, raw, words)


def test_the_manifest_of_many_clients_stays_readable(made):
    raw = (made[0] / MANIFEST).read_text()
    assert len(raw.splitlines()) == len(made[1]) + 3  # two braces, the checksum
    assert raw.splitlines()[-2].startswith('"checksum": "')
    entry = made[1]["files"][0]
    assert sorted(entry) == [
        "block_bytes", "block_sums", "bytes", "clients", "name", "sha256",
    ]  # fmt: skip
    assert len(json.dumps(entry)) < 320


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["a", "a"]}, "a class name is given twice"),
        ({"columns": "a/b"}, "a name without '/'"),
        ({"columns": ".."}, "a name without '/'"),
        ({"columns": ""}, "a name without '/'"),
    ],
)
def test_what_cannot_be_read_is_not_written(tmp_path, change, words):
    table = Table(
        "t", [column("x", np.zeros((4, 2)))], np.array([0, 1] * 2), ["a", "b"]
    )
    if "columns" in change:
        change = {"columns": [column(change["columns"], np.zeros((4, 2)))]}
    table = dataclasses.replace(table, **change)
    rows = {"train": [np.array([0, 1])], "test": [np.array([2, 3])]}
    with pytest.raises(DataError, match=words):
        write_dataset(tmp_path / "to", table, rows)
    assert not (tmp_path / "to").exists()
