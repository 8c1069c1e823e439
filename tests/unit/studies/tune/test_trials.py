"""The runs of a study: their configurations, their values, and what they read."""

import json
import math
from pathlib import Path

import h5py
import pytest

from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import ConfigError, DataError, TrainingError, WriteError
from fedapm_mpi.studies.tune.default_space import build_space
from fedapm_mpi.studies.tune.record import Failure, Result
from fedapm_mpi.studies.tune.trials import (
    Ended,
    chosen_values,
    metric_names,
    outcome,
    result_of,
    timed,
    train_here,
    trial_values,
    until,
)
from fedapm_mpi.training.preemption import PreemptionGuard
from tests.support.tuning import values_of, write_data

FIXED = {
    "optimizer": "sgd",
    "schedule": {"name": "cosine", "final": 0.1},
    "split": "biases",
    "algorithm.lr_shared": 0.1,
    "algorithm.joint_work": {"epochs": 2},
    "evaluation.fine_tune": None,
}


def study_of(data):
    config = validate(
        values_of(data, evaluation={"every": 2, "split": "test", "pooled": True}), "t"
    )
    manifest = read_manifest(data)
    space = build_space(config, manifest, FIXED)
    params = {
        one.name: one.values.at(0.5) if not one.labels else one.labels[0]
        for one in space.free
    }
    return config.plain(), manifest, space, params


@pytest.fixture
def made(data):
    """A study's configuration, its data, a fixed space, and parameters."""
    return study_of(data)


def test_a_trial_is_evaluated_on_validation_parts_where_it_ends(made):
    base, manifest, space, params = made
    found = trial_values(base, space, params, manifest, 9)
    assert found["rounds"] == 4  # two passes each
    assert found["schedule"]["rounds"] == 4
    evaluation = found["evaluation"]
    assert (evaluation["split"], evaluation["every"]) == ("val", 4)
    # Stopped at a rung, the schedule still ends where the whole trial does.
    rung = validate(until(found, 2), "t")
    assert (rung.rounds, rung.schedule["rounds"]) == (2, 4)
    assert rung.checkpoint.every == 2


def test_what_is_chosen_is_evaluated_as_the_user_wants(made):
    base, _, space, params = made
    found = chosen_values(base, space, params, 4)
    assert found["evaluation"] == base["evaluation"]
    assert (found["rounds"], found["schedule"]["rounds"]) == (4, 4)
    assert found["checkpoint"] == base["checkpoint"]
    assert validate(found, "t").plain() == found


def test_a_budget_below_a_round_is_refused(made):
    base, manifest, space, params = made
    with pytest.raises(ConfigError, match="not enough for a round"):
        trial_values(base, space, params, manifest, 1)


def test_a_promoted_trial_ends_like_one_that_was_never_stopped(made, tmp_path):
    base, manifest, space, params = made
    values = trial_values(base, space, params, manifest, 8)
    for rounds in (1, 2, 4):
        ended = train_here(until(values, rounds), tmp_path / "steps", PreemptionGuard())
        assert ended.code == 0
    assert train_here(until(values, 4), tmp_path / "once", PreemptionGuard()).code == 0
    digests = [
        (tmp_path / name / "final" / "digest.txt").read_text()
        for name in ("steps", "once")
    ]
    assert digests[0] == digests[1]
    one, other = (result_of(tmp_path / n, 4, "accuracy") for n in ("steps", "once"))
    assert one.value == other.value
    assert result_of(tmp_path / "once", 3, "accuracy") is None
    assert result_of(tmp_path / "none", 3, "accuracy") is None


def test_test_parts_are_not_read(tmp_path, monkeypatch):
    """Bytes of test samples are damaged: reading one would be refused."""
    data = write_data(tmp_path, features=1000)
    base, manifest, space, params = study_of(data)
    (shard,) = manifest.files
    path = Path(manifest.directory, shard.name)
    with h5py.File(path, "r") as file:
        inputs = file["test"]["inputs/f"].id
        start, size = inputs.get_offset(), inputs.get_storage_size()
    block = shard.block_bytes
    first, last = -(-start // block), (start + size) // block
    assert last - first > 10  # whole blocks of test samples
    content = bytearray(path.read_bytes())
    for k in range(first, last):
        content[k * block + 5] ^= 1
    path.write_bytes(content)

    splits, read = [], ShardReader.read

    def watched(self, client, split, **more):
        splits.append(split)
        return read(self, client, split, **more)

    monkeypatch.setattr(ShardReader, "read", watched)
    values = trial_values(base, space, params, manifest, 8)
    for rounds in (2, 4):
        ended = train_here(until(values, rounds), tmp_path / "r", PreemptionGuard())
        assert (ended.code, ended.error) == (0, None)
    assert set(splits) == {"train", "val"}
    # What was chosen is evaluated on the test parts, and finds the damage.
    chosen = chosen_values(base, space, params, 1)
    ended = train_here(chosen, tmp_path / "chosen", PreemptionGuard())
    assert ended.code == DataError.exit_code


def test_outcomes(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    diverged = Ended(70, TrainingError("the loss is nan"))
    assert outcome(run, 1, "accuracy", diverged) == Failure(
        "TrainingError", "the loss is nan", 70
    )
    # A full disk is not the configuration's fault, nor is a killed rank.
    assert outcome(run, 1, "accuracy", Ended(70, WriteError("full"))) is None
    assert outcome(run, 1, "accuracy", Ended(137)) is None
    failure = {"error": "TrainingError", "message": "nan", "exit_code": 70}
    (run / "failure.json").write_text(json.dumps(failure))
    assert outcome(run, 1, "accuracy", Ended(70)) == Failure("TrainingError", "nan", 70)
    (run / "failure.json").write_text(json.dumps({**failure, "error": "WriteError"}))
    assert outcome(run, 1, "accuracy", Ended(70)) is None
    (run / "failure.json").write_text("{")
    assert outcome(run, 1, "accuracy", Ended(70)) is None


def test_values_of_records(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("data: x\n")
    record = {"round": 2, "loss": 0.5, "accuracy": 0.75, "wall_seconds": 1.5}
    (run / "rounds.jsonl").write_text(json.dumps(record) + "\n")
    assert result_of(run, 2, "accuracy") == Result(2, 0.75, 1.5, None)
    ended = Ended(0, None, 2.0, 3.0)
    assert outcome(run, 2, "accuracy", ended) == Result(2, 0.75, 2.0, 3.0)
    found = result_of(run, 2, "f1")
    assert (found.kind, found.exit_code) == ("Undefined", 70)


def test_divergence_is_a_trial_of_its_own(made, tmp_path):
    base, manifest, space, params = made
    values = trial_values(base, space, params, manifest, 8)
    values["algorithm"] |= {"lr_shared": 1e30, "lr_personal": 1e30}
    ended = train_here(until(values, 4), tmp_path / "run", PreemptionGuard())
    found = outcome(tmp_path / "run", 4, "accuracy", ended)
    assert found.kind == "TrainingError"
    # Its directory states the same, for a program that started it elsewhere.
    assert outcome(tmp_path / "run", 4, "accuracy", Ended(70)) == found


def test_seconds_of_processes_are_counted():
    ended = timed(lambda: 5)
    assert (ended.code, ended.error) == (5, None)
    assert 0 <= ended.seconds < 60
    assert math.isfinite(ended.cpu_seconds)


def test_metrics_that_may_be_compared():
    assert metric_names(["accuracy", "loss"]) == [
        "accuracy", "accuracy_worst_decile", "loss", "loss_worst_decile",
    ]  # fmt: skip
