"""Models that cannot be trained on the data are named before training."""

import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.runner import dry_run, train
from tests.support.data.odd_batches import FEDAVG, write
from tests.support.processes.cli_runs import experiment


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
