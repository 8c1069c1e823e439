"""A run on the first clients of a data set is one on a data set of just these."""

import json

import numpy as np
import pytest

from fedapm_mpi.analysis.client_model import load_client_model, recompute_digest
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.identity import identity_of
from tests.support.data.recorded import go
from tests.support.processes.cli_runs import (
    assert_same_run,
    digest_of,
    experiment,
    rounds_of,
)

COUNT = 5


@pytest.fixture(scope="module")
def alone(toy, tmp_path_factory):
    """A data set that holds the first clients of another and nothing else."""
    reader = ShardReader(read_manifest(toy["features"]))
    x, labels, rows, start = [], [], {"train": [], "test": []}, 0
    for client in range(COUNT):
        for split, own in rows.items():
            found = reader.read(client, split)
            x.append(found.inputs["x"])
            labels.append(found.labels)
            own.append(np.arange(start, start + len(found.labels)))
            start += len(found.labels)
    folder = tmp_path_factory.mktemp("alone") / "data"
    made = [column("x", np.concatenate(x))]
    table = Table("toy", made, np.concatenate(labels), reader_classes(toy))
    write_dataset(folder, table, rows, shards=2)
    return folder


def reader_classes(toy):
    return read_manifest(toy["features"]).classes


def test_the_first_clients_train_as_if_there_were_no_others(toy, alone, tmp_path):
    cut = go(tmp_path / "cut", toy["features"], clients=COUNT)
    other = go(tmp_path / "alone", alone)
    assert_same_run(cut, other)
    assert recompute_digest(cut) == digest_of(cut)
    load_client_model(cut, COUNT - 1)
    whole = go(tmp_path / "whole", toy["features"])
    assert digest_of(whole) != digest_of(cut)


def test_all_clients_are_as_none_named(toy, tmp_path):
    named = go(tmp_path / "named", toy["features"], clients=8)
    assert_same_run(named, go(tmp_path / "free", toy["features"]))


def test_more_clients_than_there_are_is_refused(toy):
    config = validate(experiment(toy["features"], clients=9), "test")
    with pytest.raises(ConfigError, match="clients is 9, but the data set has only 8"):
        open_context(config, Serial())


def test_clients_count_for_who_may_continue(toy):
    few, all_ = (
        validate(experiment(toy["features"], clients=n), "test").plain()
        for n in (COUNT, None)
    )
    assert identity_of(few) != identity_of(all_)


def test_who_lacks_an_input_is_cut_too(toy):
    whole = read_manifest(toy["lacking"])
    cut = whole.first_clients(3)
    assert cut.lacking == {"acc": (), "gyro": (1,)}
    assert cut.num_clients == len(cut.client_names) == len(cut.counts["train"]) == 3


def test_records_have_the_seconds_between_them(toy, tmp_path):
    run = go(tmp_path / "run", toy["features"])
    lines = (run / "rounds.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert records[0]["wall_seconds"] is None
    for record in records[1:]:
        parts = dict(record["seconds"])
        parts.pop("local_mean")
        assert record["wall_seconds"] >= sum(parts.values())
    assert len(rounds_of(run)) == len(records)
