"""Which client is meant by a number or a name."""

from pathlib import Path

import numpy as np
import pytest

from fedapm_mpi.analysis.client_model import find_client, load_client_model
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.engine.inference import evaluate
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import DataError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support.experiments import SMALL_HAR
from tests.support.own_files import PLAIN, here, write  # noqa: F401
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
    ("client", "told"),
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
def test_a_client_that_is_not_there(client, told):
    with pytest.raises(DataError) as caught:
        find_client(Path("run"), NAMES, client)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


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
        found, _ = evaluate(model, samples, session.federation.num_classes)
        wanted = {"loss": found.loss, **found.metrics}
        np.testing.assert_equal({name: row[name] for name in wanted}, wanted)
