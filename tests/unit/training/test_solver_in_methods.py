"""Optimizers, schedules and clipping in training: every method, and what is recorded.

Another way to step gives another digest, so each part of the configuration reaches
every method's steps.
"""

import json
from functools import partial

import pytest

from fedapm_mpi.algorithms import algorithms
from fedapm_mpi.cli.main import main
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.optim.schedules import schedules
from fedapm_mpi.storage.checkpoint import find, load_states
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.runner import train_run
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import FEDAPM, FEDSIM, experiment

METHODS = {
    options["name"]: options
    for options in (
        FEDAPM,
        *(FEDSIM | {"name": name} for name in ("fedavg", "fedsim", "local")),
        *SHARING_ALL.values(),
        *SHARING_PART.values(),
    )
}
SOLVER = {
    "optimizer": "adam",
    "schedule": {"name": "cosine", "final": 0.1, "rounds": 2},
    "clip": {"norm": 0.05},
    "accumulate_batches": 2,
}


def run(folder, data, method, **changes):
    """Train two rounds in this process and return the run."""
    options = METHODS[method]
    if algorithms.get(method).sharing != "split":
        changes["split"] = None
    values = experiment(data, algorithm=options, rounds=2, **changes)
    values |= {"evaluation": {"every": 9, "pooled": False}, "loggers": ["jsonl"]}
    config = validate(values, method)
    return train_run(Serial(), config, directory=folder, progress="none")


def test_all_methods_are_here():
    assert set(METHODS) == set(algorithms.names())


@pytest.mark.parametrize("method", METHODS)
def test_each_part_changes_what_a_method_learns(toy, tmp_path, method):
    parts, digests = {}, []
    for part in (None, *SOLVER):
        parts |= {part: SOLVER[part]} if part else {}
        found = run(tmp_path / str(part), toy["features"], method, **parts)
        assert found.finished
        digests.append(found.digest)
    assert len(set(digests)) == len(digests)


def records_of(run):
    lines = (run.directory / "rounds.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_kept_state_is_that_of_the_round_before(toy, tmp_path):
    """In the first round it makes no difference, in the second it does."""
    found = {}
    for state in ("reset", "keep"):
        changes = {"optimizer": {"name": "adam", "state": state}}
        changes |= {"participation": "full", "checkpoint": {"every": 1}}
        found[state] = run(tmp_path / state, toy["features"], "fedavg", **changes)
    losses = {
        state: [record["train_loss"] for record in records_of(one)[1:]]
        for state, one in found.items()
    }
    assert losses["keep"][0] == losses["reset"][0]
    assert losses["keep"][1] != losses["reset"][1]
    first, second = (
        load_states(saved, range(8))
        for saved in reversed(find(found["keep"].directory / "checkpoints", []))
    )
    for client in first:
        taken = [int(one[client]["optimizer.shared.steps_taken"])
                 for one in (first, second)]  # fmt: skip
        assert taken[1] == 2 * taken[0] > 0


class StopIn(PreemptionGuard):
    """Asks the run to stop in its second round, as a signal does."""

    rounds = 0

    def should_stop(self):
        self.rounds += 1
        return int(self.rounds == 2)


@pytest.mark.parametrize("method", ["fedapm", "ditto", "scaffold"])
@pytest.mark.parametrize("unit", ["round", "step"])
def test_stopped_within_a_schedule_it_ends_in_the_unbroken_digest(
    toy, tmp_path, method, unit
):
    options = METHODS[method]
    schedule = {"name": "cosine", "final": 0.1, "warmup": 1, "unit": unit}
    values = experiment(
        toy["features"], algorithm=options, rounds=5, schedule=schedule,
        optimizer={"name": "adam", "state": "keep"}, checkpoint={"every": 99},
        split={"personal": ["head.*"]} if method == "fedapm" else None,
    )  # fmt: skip
    config = validate(values, method)
    start = partial(train_run, Serial(), config, progress="none")
    whole = start(directory=tmp_path / "whole")
    stopped = start(directory=tmp_path / "stopped", stop=StopIn())
    assert stopped.exit_code == 75
    assert records_of(stopped)[-1]["round"] == 2
    assert start(directory=tmp_path / "stopped", resume=True).digest == whole.digest


@pytest.fixture(scope="module")
def recorded(toy, tmp_path_factory):
    """Return the run of a method with a schedule and a clip."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    changes = {
        "schedule": SOLVER["schedule"] | {"personal": "constant"},
        "clip": {"norm": 1e9},
        "participation": {"name": "random", "count": 3},
    }
    return run(folder, toy["features"], "fedavg-ft", **changes)


def test_factors_of_the_step_sizes_are_recorded(recorded):
    _, *records = records_of(recorded)
    cosine = schedules.get("cosine")(final=0.1)
    for t, record in enumerate(records):
        wanted = {"shared": cosine.factor(t, 2), "personal": 1.0}
        assert record["lr_factor"] == wanted


def test_clipped_steps_are_recorded_of_all_participants(recorded, toy, tmp_path):
    """Under a bound that is never met and one that always is, in batches of 8."""
    always = run(tmp_path / "always", toy["features"], "fedavg", clip={"norm": 1e-9})
    for found in (recorded, always):
        _, *records = records_of(found)
        for record in records:
            clipped = record["local_steps"] if found is always else 0
            assert record["clipped_steps"] == clipped
    manifest = json.loads((toy["features"] / "manifest.json").read_text())
    sizes = manifest["counts"]["train"]
    for record in records_of(recorded)[1:]:
        steps = sum(2 * -(-sizes[i] // 8) for i in expand(record["participants"]))
        assert record["local_steps"] == steps


def expand(ranges):
    """Return the numbers in text such as ``0-2,5``."""
    found = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_a_plain_run_records_none_of_it(toy, tmp_path):
    for record in records_of(run(tmp_path / "run", toy["features"], "fedavg")):
        assert not {"lr_factor", "local_steps", "clipped_steps"} & set(record)


def test_reports_read_such_records(recorded, tmp_path, capsys):
    path = str(recorded.directory)
    assert main(["report", path, "--out", str(tmp_path / "report")]) == 0
    assert main(["convergence", path, "--metric", "clipped_steps"]) == 0
    assert main(["convergence", path, "--metric", "lr_factor"]) == 2
    assert "have no such number" in capsys.readouterr().err
    summary = json.loads((recorded.directory / "summary.json").read_text())
    assert summary["num_missing_rounds"] == 0
