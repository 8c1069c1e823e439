"""Models that cannot be trained on the data are named before training."""

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.runner import dry_run, train
from tests.support.processes.cli_runs import experiment

CLASSES = ("left", "right", "up")
COUNTS = (9, 8, 12, 5)
"""Training samples; 9 and 5 leave one over in batches of 4."""


FEDAVG = {"name": "fedavg", "lr": 0.1, "batch_size": 4, "work": {"epochs": 2}}


def write(directory, counts=COUNTS):
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(len(counts)), np.array(counts) + 1)
    labels = rng.integers(0, 3, len(owner))
    x = rng.normal(size=(len(owner), 6)).astype(np.float32) + labels[:, None]
    rows = [np.flatnonzero(owner == i) for i in range(len(counts))]
    splits = {"train": [r[:-1] for r in rows], "test": [r[-1:] for r in rows]}
    table = Table("odd", [column("x", x.astype(np.float32))], labels, CLASSES)
    return write_dataset(directory, table, splits, shards=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("last-batch") / "odd"
    write(directory)
    return directory


def config(data, kind="batch", algorithm=FEDAVG, **changes):
    values = experiment(
        data,
        model={"name": "odd_models:normed", "kind": kind},
        algorithm=algorithm,
        participation={"name": "full"},
        rounds=1,
        split=None,
    )
    return validate(values | changes, "test")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (
            {"last_batch": "keep"},
            r"2 client\(s\) .*: 0 \(.*\), 3 \(.*\); set last_batch",
        ),
        (
            {"algorithm": FEDAVG | {"batch_size": 1}},
            r"4 client\(s\) .*another algorithm",
        ),
    ],
)
@pytest.mark.parametrize("start", [dry_run, train])
def test_clients_that_cannot_be_trained_are_named_before(data, changes, wanted, start):
    cause = r"one sample \(ValueError: Expected more than 1 value per channel.*\), but "
    with pytest.raises(ConfigError, match=cause + wanted):
        start(Serial(), config(data, **changes))


def test_a_client_with_a_single_sample_is_named(tmp_path):
    write(tmp_path / "few", counts=(1, 4, 1, 1, 1, 1, 1))
    named = (
        r"6 client\(s\) have such a batch: 0 \(.*\), 2 .*, 3 .*, 4 .*, 5 .* and 1 more"
    )
    with pytest.raises(ConfigError, match=named + "; leave out clients"):
        dry_run(Serial(), config(tmp_path / "few"))
    dry_run(Serial(), config(tmp_path / "few", kind="layer"))


def test_a_norm_of_single_values_is_refused(data):
    with pytest.raises(ConfigError, match=r"'norm' \(GroupNorm\) normalises single"):
        dry_run(Serial(), config(data, "groups"))
    dry_run(Serial(), config(data, "pairs"))
