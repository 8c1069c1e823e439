"""Which client is meant by a number or a name, and what its model is."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedapm_mpi.analysis.client_model import find_client, load_client_model
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.engine.inference import evaluate
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.engine.tensor_files import read_tensors
from fedapm_mpi.errors import DataError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support.data.odd_batches import COUNTS, FEDAVG
from tests.support.data.odd_batches import write as write_odd
from tests.support.experiments import SMALL_HAR
from tests.support.processes.cli_runs import experiment

NAMES = ("anna", "7", "0", "bert", "anna")


@pytest.mark.parametrize(
    ("client", "number"),
    [(3, 3), ("bert", 3), ("7", 1), ("0", 2), ("4", 4), (0, 0), ("1", 1)],
)
def test_a_client_by_number_or_name(client, number):
    assert find_client(Path("run"), NAMES, client) == number
    if isinstance(client, int):
        assert find_client(Path("run"), NAMES, np.int64(client)) == number


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (5, "run has clients 0 to 4, not 5"),
        (-1, "run has clients 0 to 4, not -1"),
        ("5", "run has clients 0 to 4, not 5"),
        ("9" * 5000, "run has clients 0 to 4, not 999"),
        ("berd", "run has no client called 'berd'; did you mean 'bert'?"),
        ("-1", "run has no client called '-1'"),
        ("x" * 5000, "run has no client called 'xxx"),
        ("anna", "2 clients are called 'anna'; give a number"),
        (True, "by its number or its name, not by True of type bool"),
        (1.0, "not by 1.0 of type float"),
        (None, "not by None of type NoneType"),
        (b"bert", "of type bytes"),
    ],
)
def test_a_client_that_is_not_there(client, expected):
    with pytest.raises(DataError) as caught:
        find_client(Path("run"), NAMES, client)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("shared_block", ["server", "client"])
def test_averaged_buffers_are_those_of_the_runs_last_evaluation(tmp_path, shared_block):
    """The server's, or with ``shared_block: client`` the client's own."""
    write_odd(tmp_path / "odd")
    values = experiment(
        tmp_path / "odd",
        model={"name": "odd_models:normed", "kind": "batch"},
        algorithm=FEDAVG,
        participation="full",
        buffers="mean",
        rounds=2,
        split=None,
        evaluation={"every": 2, "split": "train", "shared_block": shared_block},
    )
    run = tmp_path / "run"
    config = validate(values, "test")
    assert train(Serial(), config, directory=run, progress="none") == 0
    with (run / "clients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(COUNTS)
    server = read_tensors(run / "final" / "server.safetensors")["buffers"].float()
    (path,) = (run / "final").glob("clients-*.safetensors")
    own = [read_tensors(path)[f"{client}/buffers"] for client in range(len(COUNTS))]
    assert all(not torch.equal(one, server) for one in own)
    reader = ShardReader(read_manifest(str(tmp_path / "odd")))
    for client, row in enumerate(rows):
        module = load_client_model(run, client)
        expected = own[client] if shared_block == "client" else server
        norm = module.norm
        found = torch.cat([norm.running_mean, norm.running_var])
        assert torch.equal(found, expected)
        samples = reader.read(client, "train")
        scores = module(torch.from_numpy(samples.inputs["x"]))
        loss = nn.functional.cross_entropy(scores, torch.from_numpy(samples.labels))
        assert loss.item() == pytest.approx(float(row["loss"]), rel=1e-5)
        assert int(row["evaluated_samples"]) == COUNTS[client]
    reader.close()


TUNING = {"block": "all", "lr": 0.1, "work": {"steps": 5}}
NORMED = {
    "model": "user_parts:batch_norm",
    "split": {"personal": ["3.*"]},
    "buffers": "mean",
}
HAR = {"model": SMALL_HAR, "split": {"personal": ["*_conv.*"]}}


@pytest.mark.parametrize(
    ("data", "evaluation", "changes"),
    [
        ("motion", {"fine_tune": TUNING}, HAR),
        ("features", {"shared_block": "client", "fine_tune": TUNING}, NORMED),
        ("features", {"shared_block": "both"}, NORMED),
        (
            "features",
            {"shared_block": "both"} | {"fine_tune": TUNING | {"compare": True}},
            {"optimizer": "adam", "participation": "full"},
        ),
    ],
)
def test_a_model_is_that_of_the_last_evaluation(
    toy, tmp_path, data, evaluation, changes
):
    """Bit for bit: its metrics on the client's test samples are those on record."""
    values = experiment(toy[data], rounds=3, evaluation=evaluation, **changes)
    config = validate(values, "test")
    assert train(Serial(), config, directory=tmp_path / "run", progress="none") == 0
    session = open_context(config, Serial())
    for row in Run(tmp_path / "run").clients:
        module = load_client_model(tmp_path / "run", row["client"])
        model = PartitionedModel(module, set())
        samples = session.samples(row["client"], "test")
        found, _ = evaluate(model, samples, session.federation.targets.size)
        wanted = {"loss": found.loss, **found.metrics}
        np.testing.assert_equal({name: row[name] for name in wanted}, wanted)
