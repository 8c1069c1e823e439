"""Columns that some clients have: described, read back, checked and verified."""

import copy
import dataclasses

import numpy as np
import pytest

from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.cli import verify as verify_command
from fedapm_mpi.data.held_columns import blank, is_blank
from fedapm_mpi.data.manifest import (
    MANIFEST,
    InputSpec,
    encode_manifest,
    read_manifest,
)
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import strict_json
from tests.support.preparation import command

HELD = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
SPLITS = {
    "train": list(np.arange(12).reshape(3, 4)),
    "test": list(np.arange(12, 18).reshape(3, 2)),
}


def table(held=HELD):
    owner = np.repeat([0, 1, 2, 0, 1, 2], [4, 4, 4, 2, 2, 2])
    x = np.random.default_rng(0).normal(size=(18, 3, 4)).astype(np.float32)
    x *= HELD[owner][:, None]
    made = column("x", x)
    other = column("z", np.ones((18, 2), np.float32))
    columns = [dataclasses.replace(made, held=held), other]
    return Table("t", columns, np.zeros(18, int), ["one"])


@pytest.fixture
def made(tmp_path):
    write_dataset(tmp_path / "to", table(), SPLITS)
    return tmp_path / "to"


def test_is_written_and_read_back(made, capsys):
    manifest = read_manifest(made)
    assert manifest.columns == {"x": ((0, 1), (2, 3), ())}
    assert read_manifest(made).first_clients(1).columns == {"x": ((0, 1),)}
    assert command(verify_command, made) == 0
    command(inspect_command, made)
    out = capsys.readouterr().out
    assert "client 0 of it: columns 0-1\n" in out
    assert "client 2 of it: nothing\n" in out


def test_is_absent_where_all_have_all(tmp_path):
    write_dataset(tmp_path / "to", table(None), SPLITS)
    assert b'"columns"' not in (tmp_path / "to" / MANIFEST).read_bytes()


@pytest.mark.parametrize("held", [HELD[:2], HELD[:, :3], HELD.astype(int)])
def test_who_has_what_of_a_table(tmp_path, held):
    with pytest.raises(DataError, match="'x' must have a truth value for each of 3"):
        write_dataset(tmp_path / "to", table(held), SPLITS)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([], r"columns is \[\], not an object"),
        ({"x": 3}, "columns of input 'x' is 3, not a list"),
        ({"x": [[0.0], [], []]}, "columns of input 'x' has 0.0, not an integer"),
        ({"y": [[0], [], []]}, "who has which columns of the input 'y'"),
        ({"x": [[0], []]}, "who has which columns of the input 'x'"),
        ({"x": [[1, 0], [], []]}, "who has which columns of the input 'x'"),
        ({"x": [[4], [], []]}, "who has which columns of the input 'x'"),
        ({"x": [[-1], [], []]}, "who has which columns of the input 'x'"),
    ],
)
def test_what_a_manifest_cannot_say(made, columns, words):
    tree, _ = strict_json.decode((made / MANIFEST).read_bytes())
    tree = copy.deepcopy(tree) | {"columns": columns}
    (made / MANIFEST).write_bytes(strict_json.encode(tree))
    with pytest.raises(DataError, match=words):
        read_manifest(made)


def test_columns_that_are_not_blank(made):
    manifest = read_manifest(made)
    less = dataclasses.replace(manifest, columns={"x": ((0, 1), (2,), ())})
    (made / MANIFEST).write_bytes(encode_manifest(less))
    words = r"client 1 \(client 1\) has train values in columns of 'x' that it is said"
    with pytest.raises(DataError, match=words):
        command(verify_command, made)


@pytest.mark.parametrize(
    ("spec", "stored"),
    [
        (InputSpec("x", (2,), "float32"), 0.0),
        (InputSpec("x", (2,), "float64", scale=2.0, shift=-1.0), 0.5),
        (InputSpec("x", (2,), "uint8", scale=1 / 127.5, shift=-1.0), 128),
        (InputSpec("x", (2,), "uint8", scale=1.0, shift=3.0), 0),
        (InputSpec("x", (2,), "int16", scale=0.0, shift=3.0), 0),
    ],
)
def test_blank_is_seen_nearest_to_zero(spec, stored):
    assert blank(spec) == stored
    assert blank(spec).dtype == spec.dtype


def test_blank_values():
    values = np.array([[1, 5, 2, 5], [3, 5, 4, 5]])
    assert is_blank(values, [0, 2])
    assert not is_blank(values, [0])
    assert is_blank(values, [0, 1, 2, 3])
    assert is_blank(values[:0], [])
    assert is_blank(values[:, 1], [])
    assert not is_blank(values[:, 0], [])
    assert is_blank(values[:, 0], [0])
