"""Passes over the training data, counted by hand."""

import math

import numpy as np
import pytest

from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune.budget import Passes
from fedapm_mpi.utils.rng import generator
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import FEDSIM
from tests.support.tuning import JOINT, values_of


def passes(data, algorithm, blocks=("personal", "shared"), **changes):
    config = validate(values_of(data, algorithm=algorithm, **changes), "t")
    return Passes(config, read_manifest(data), blocks)


ALTERNATE = {
    **{k: v for k, v in JOINT.items() if k not in ("block_order", "joint_work")},
    "personal_work": {"epochs": 2},
    "shared_work": {"epochs": 3},
}
WHOLE = {"split": None}


@pytest.mark.parametrize(
    ("algorithm", "changes", "each"),
    [
        (JOINT, {}, 2),
        (ALTERNATE, {}, 5),
        (SHARING_ALL["ditto"], WHOLE, 2),
        (SHARING_ALL["scaffold"], WHOLE, 2),
        (SHARING_ALL["scaffold-gradient"], WHOLE, 2),  # one epoch and the gradient
        (SHARING_ALL["pfedme"], WHOLE, 3),  # three gradients on each mini-batch
    ],
)
def test_passes_of_a_round_with_all_clients(data, algorithm, changes, each):
    found = passes(data, algorithm, **changes)
    assert found.of_rounds(4) == pytest.approx(4 * each)
    assert found.rounds_within(4 * each) == 4
    assert found.rounds_within(5 * each - 0.01) == 4


def test_a_phase_without_parameters_takes_no_passes(data):
    assert passes(data, ALTERNATE, ["shared"]).of_rounds(1) == pytest.approx(3)
    assert passes(data, ALTERNATE, ["personal"]).of_rounds(1) == pytest.approx(2)


def test_only_participants_pass_over_their_samples(data):
    changes = {"participation": {"name": "random", "count": 2}, "seed": 5}
    found = passes(data, JOINT, **changes)
    counts = read_manifest(data).counts["train"]
    expected = 0.0
    for t in range(7):
        rng = generator(5, "participants", t)
        chosen = rng.choice(len(counts), size=2, replace=False)
        expected += 2 * counts[chosen].sum() / counts.sum()
    assert found.of_rounds(7) == pytest.approx(expected)


def test_steps_are_converted(data):
    counts = read_manifest(data).counts["train"]
    algorithm = {**JOINT, "joint_work": {"steps": 3}}
    expected = sum(3 * min(8, n) for n in counts) / counts.sum()
    assert passes(data, algorithm).of_rounds(5) == pytest.approx(5 * expected)
    twice = passes(data, algorithm, accumulate_batches=2)
    assert twice.of_rounds(5) == pytest.approx(10 * expected)


def test_training_before_the_evaluation_counts_once(data):
    tuning = {"block": "all", "lr": 0.1, "work": {"epochs": 3}}
    found = passes(data, JOINT, evaluation={"fine_tune": tuning})
    assert found.of_rounds(4) == pytest.approx(11)
    assert found.rounds_within(11) == 4
    counts = read_manifest(data).counts["train"]
    own = passes(data, SHARING_ALL["fedavg-ft"], split=None)
    expected = 8 + sum(5 * min(8, n) for n in counts) / counts.sum()
    assert own.of_rounds(4) == pytest.approx(expected)


def test_a_budget_that_is_too_small(data):
    with pytest.raises(ConfigError, match="not enough for a round"):
        passes(data, JOINT).rounds_within(1.9)


def test_a_tolerance_has_no_known_length(data):
    work = {"xi": 0.1, "decay": 0.5, "max_epochs": 3}
    with pytest.raises(ConfigError, match="tolerance xi has no known length"):
        passes(data, {**ALTERNATE, "shared_work": work})


def test_rounds_without_passes_end(data, monkeypatch):
    monkeypatch.setattr("fedapm_mpi.studies.tune.budget.MAX_ROUNDS", 50)
    found = passes(data, {"name": "fedsim", **FEDSIM})
    monkeypatch.setattr(found, "_of_round", lambda index: 0.0)
    with pytest.raises(ConfigError, match="lasts for more than 50 rounds"):
        found.rounds_within(3)


def test_every_method_uses_the_whole_budget(data):
    """Rounds times passes come to the budget, less than a round apart."""
    for options in [*SHARING_ALL.values(), *SHARING_PART.values()]:
        split = {} if options in SHARING_PART.values() else WHOLE
        found = passes(data, options, **split)
        rounds = found.rounds_within(20)
        assert found.of_rounds(rounds) <= 20 + 1e-6 < found.of_rounds(rounds + 1) + 1e-6
        assert math.isfinite(np.float64(found.of_rounds(rounds)))
