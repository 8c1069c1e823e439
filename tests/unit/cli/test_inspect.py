"""``fedapm inspect``: what it shows of a data set."""

import re

import numpy as np

from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.data.manifest import read_manifest
from tests.support.preparation import command, prepare


def test_inspect(origin, tmp_path, capsys):
    prepare("arrays", origin, tmp_path / "to")
    capsys.readouterr()
    assert command(inspect_command, tmp_path / "to") == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    manifest = read_manifest(tmp_path / "to")
    for client in range(6):
        counts = manifest.label_counts["train"][client]
        train, test = (manifest.counts[s][client] for s in ("train", "test"))
        row = [client, 100 + client, *counts, train, test]
        assert [str(cell) for cell in row] in lines
    assert re.search(r"effective number of classes +2\.9\d of 3", out)


def test_inspect_of_many_clients_and_classes(tmp_path, capsys):
    path = tmp_path / "made.npz"
    y = np.random.default_rng(0).integers(0, 40, 6000)
    np.savez(path, x_a=np.zeros((6000, 1), np.int8), y=y)
    prepare(
        "arrays", path, tmp_path / "to", "partitioner=iid", "clients=200", "test=0.25"
    )
    capsys.readouterr()
    command(inspect_command, tmp_path / "to")
    out = capsys.readouterr().out
    assert "(30 of 200 clients, evenly by size)" in out
    assert "50 % 22" in out
    assert "15, … (24 more)" in out
    table = out[out.index("training samples by client") :].splitlines()
    assert len(table) == 2 + 30 + 2
    for line in table[2:32]:
        cells = line.split()
        assert sum(map(int, cells[3:-2])) == int(cells[-2])
