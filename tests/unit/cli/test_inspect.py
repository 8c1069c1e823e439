"""``fedapm inspect``: what it shows of a data set, and of a run."""

import re

import numpy as np
import pytest

from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import DataError
from fedapm_mpi.training.preemption import PreemptionGuard
from tests.support.data.recorded import go
from tests.support.preparation import command, prepare
from tests.support.processes.cli_runs import rounds_of


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


@pytest.mark.parametrize("recorded", [True, False])
def test_of_a_run_it_shows_how_clients_differ_by_layer(toy, tmp_path, capsys, recorded):
    """As its records have it, or else measured in its final state: the same."""
    run = go(tmp_path / "run", toy["features"], diagnostics={"multiplier": True})
    lms = rounds_of(run)[-1]["multiplier"]
    if not recorded:
        run = go(tmp_path / "other", toy["features"])
    capsys.readouterr()
    plot = tmp_path / "layers.png"
    assert command(inspect_command, run, "--plot", plot) == 0
    out = capsys.readouterr().out
    assert ("of the final state" in out) is not recorded
    for name, lm in lms.items():
        (line,) = [one for one in out.splitlines() if name in one]
        assert f"{lm:.4f}" in line
    assert plot.stat().st_size > 5000


def test_a_run_that_is_not_finished_and_has_no_test_is_named(toy, tmp_path):
    run = go(tmp_path / "run", toy["features"], stop=PreemptionGuard(1))
    with pytest.raises(DataError, match="is not finished; continue it by"):
        command(inspect_command, run)
