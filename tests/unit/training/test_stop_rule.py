"""The stop rule, and runs that go on: with a penalty that adapts, or blocks jointly."""

import json
import math
import shutil
from itertools import pairwise
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import load_file

from fedapm_mpi.training.preemption import PreemptionGuard
from tests.support.data.recorded import (
    BALANCED,
    EVERYTHING,
    JOINT,
    Looked,
    go,
    ids,
    penalties,
    residuals_of,
)
from tests.support.processes.cli_runs import FEDAPM, digest_of, rounds_of


@pytest.fixture(scope="module")
def features(toy):
    return toy["features"]


@pytest.fixture(scope="module")
def balanced(features, tmp_path_factory):
    run = tmp_path_factory.mktemp("balanced") / "run"
    changes = {"algorithm": BALANCED, "rounds": 9}
    go(run, features, diagnostics=EVERYTHING, **changes)
    return run, Looked(run, features, **changes)


OWN_UNIT = {"units": "client", "lr_shared": 0.25, "lr_personal": 0.25}
RULES = {
    "primal": (0.02, {"relative": 0.03}),
    "dual": (0.1, {"relative": 0.05}),
    "absolute": (0.05, {"absolute": 5e-4}),
    "sum": (0.05, {"absolute": 5e-4, "relative": 0.01}),
    "own unit": (0.4, {"absolute": 1e-3, "relative": 0.01}, OWN_UNIT),
}
"""Penalty and rule, by what is met last."""

ENTRIES = 18
"""Of the shared block of a logistic model."""


def stopping(rho, rule, options=MappingProxyType({})):
    """Return a smooth convex problem with full batches, which converges."""
    work = {"personal_work": {"steps": 8}, "shared_work": {"steps": 8}}
    sizes = {"lr_shared": 2.0, "lr_personal": 2.0, "batch_size": 0}
    return {
        "model": "logistic",
        "split": {"personal": ["linear.bias"]},
        "algorithm": FEDAPM
        | sizes
        | work
        | {"rho": rho, "weight_decay": 0.1, **options},
        "client_weights": "samples" if options else "uniform",
        "participation": "full",
        "rounds": 60,
        "tolerance": rule,
    }


@pytest.fixture(scope="module", params=RULES)
def stopped(request, features, tmp_path_factory):
    """Return a run that a rule ended, and its settings."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    changes = stopping(*RULES[request.param])
    return go(run, features, **changes), changes


def test_a_run_ends_in_the_first_round_that_meets_the_tolerance(stopped, features):
    """By the textbook's rule on the checkpoints of all rounds."""
    run, changes = stopped
    records, states = rounds_of(run), Looked(run, features, **changes)
    rule = {"absolute": 0.0, "relative": 0.0} | changes["tolerance"]
    own = torch.full((states.m,), changes["algorithm"]["rho"], dtype=torch.float64)
    floor = math.sqrt(states.m * ENTRIES) * rule["absolute"]
    met = []
    for t in range(1, len(records)):
        primal, dual, scale_primal, scale_dual = residuals_of(states, t, own)
        primal_met = primal <= floor + rule["relative"] * scale_primal
        dual_met = dual <= floor + rule["relative"] * scale_dual
        met.append(primal_met and dual_met)
    assert 5 < len(met) < 30
    assert met == [False] * (len(met) - 1) + [True]


def test_it_is_finished_and_says_so(stopped):
    run, _ = stopped
    first, *between, last = rounds_of(run)
    assert last["converged"] is True
    assert not any("converged" in record for record in [first, *between])
    assert last["loss"] > 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["rounds"] == summary["last_evaluated_round"] == last["round"]
    assert (run / "final" / "shared.safetensors").exists()
    assert len(digest_of(run)) == 64


@pytest.mark.parametrize("rounds", [60, 70])
def test_going_on_with_a_converged_run_does_nothing(
    stopped, features, tmp_path, rounds
):
    done, changes = stopped
    run = tmp_path / "run"
    shutil.copytree(done, run)
    go(run, features, resume=True, **changes | {"rounds": rounds})
    assert rounds_of(run) == rounds_of(done)
    assert digest_of(run) == digest_of(done)


def test_a_converged_run_is_bit_for_bit_one_of_that_many_rounds(
    stopped, features, tmp_path
):
    done, changes = stopped
    shorter = changes | {"tolerance": None, "rounds": len(rounds_of(done)) - 1}
    run = go(tmp_path / "run", features, **shorter)
    assert digest_of(run) == digest_of(done)
    assert not any("converged" in record for record in rounds_of(run))


def test_a_rule_that_is_never_met_ends_nothing(features, tmp_path):
    changes = stopping(0.1, {"relative": 1e-9}) | {"rounds": 6}
    run = go(tmp_path / "run", features, **changes)
    assert len(rounds_of(run)) == 7
    assert "converged" not in rounds_of(run)[-1]


def test_rounds_without_a_participant_do_not_end_a_run(features, tmp_path):
    """Nothing moves in them, which is no sign of convergence."""
    changes = stopping(0.1, {"relative": 1e-9}) | {
        "participation": {"name": "probability", "probability": 1e-12},
        "rounds": 4,
    }
    run = go(tmp_path / "run", features, **changes)
    assert [record["round"] for record in rounds_of(run)] == [0, 1, 2, 3, 4]


def test_no_run_ends_before_every_client_has_taken_part(features, tmp_path):
    """Clients that never did agree with the initial model, however loose the rule."""
    changes = stopping(0.1, {"relative": 1e9}) | {
        "participation": {"name": "random", "count": 2},
        "rounds": 40,
    }
    coverage = [r["coverage"] for r in rounds_of(go(tmp_path, features, **changes))[1:]]
    assert coverage[-1] == 8
    assert max(coverage[:-1]) < 8
    assert len(coverage) < 40


@pytest.mark.parametrize("algorithm", [FEDAPM, BALANCED, JOINT])
def test_a_run_continues_from_its_middle(features, tmp_path, algorithm):
    """In double precision too, where a penalty has digits that float32 has not."""
    changes = {"algorithm": algorithm}
    whole = go(tmp_path / "whole", features, **changes)
    run = cut_at(3, whole, tmp_path / "run")
    go(run, features, resume=True, **changes)
    assert digest_of(run) == digest_of(whole)
    assert rounds_of(run) == rounds_of(whole)


def cut_at(t, whole, run):
    """Copy a run as if it had ended after `t` rounds."""
    shutil.copytree(whole, run)
    shutil.rmtree(run / "final")
    for folder in (run / "checkpoints").iterdir():
        if int(folder.name.rpartition("-")[2]) > t:
            shutil.rmtree(folder)
    return run


def test_an_adapting_run_continues_from_its_middle(balanced, features, tmp_path):
    """Same bits and same penalties; they change before and after where it continues."""
    whole, _ = balanced
    run = cut_at(4, whole, tmp_path / "run")
    changes = {"algorithm": BALANCED, "rounds": 9, "diagnostics": EVERYTHING}
    go(run, features, resume=True, **changes)
    assert digest_of(run) == digest_of(whole)
    assert rounds_of(run) == rounds_of(whole)
    used = [record["rho"] for record in rounds_of(run)[1:]]
    assert len(set(used[:4])) > 1
    assert len(set(used[4:])) > 1
    assert used[4] != used[3]


class AskedInRound(PreemptionGuard):
    """Asks a run to stop once it has been looked at that many times."""

    def __init__(self, t):
        super().__init__()
        self.left = t

    def should_stop(self):
        self.left -= 1
        return int(self.left <= 0)


@pytest.mark.parametrize("t", [1, 4])
def test_an_adapting_run_that_was_stopped_continues(balanced, features, tmp_path, t):
    """With the penalty that the round before the stop had led to."""
    whole, _ = balanced
    changes = {"algorithm": BALANCED, "rounds": 9, "diagnostics": EVERYTHING}
    changes["checkpoint"] = {"every": 99}
    run = go(tmp_path / "run", features, stop=AskedInRound(t), **changes)
    assert rounds_of(run)[-1]["round"] == t
    go(run, features, resume=True, **changes)
    assert digest_of(run) == digest_of(whole)
    used, expected = ([r.get("rho") for r in rounds_of(x)] for x in (run, whole))
    assert used == expected


def test_an_adapting_run_follows_the_rule(balanced):
    """Each penalty from the record of the round before."""
    records = rounds_of(balanced[0])[1:]
    for before, after in pairwise(records):
        primal, dual = before["primal_residual"], before["dual_residual"]
        up, down = primal > 2 * dual, dual > 2 * primal
        assert after["rho"] == before["rho"] * (2 if up else 0.5 if down else 1)


def test_clients_keep_the_penalty_they_last_worked_with(balanced):
    run, states = balanced
    records = rounds_of(run)[1:]
    for t in (3, 6, 9):
        own = penalties(states, t, records)
        assert states.clients(t, "rho")[:, 0].tolist() == own.tolist()
        assert len(set(own.tolist())) > 1
        server = load_file(states.folder(t) / "server.safetensors")
        assert server["penalties"].tolist() == own.tolist()


# A schedule of the penalty ---------------------------------------------------------


SCHEDULED = {
    "algorithm": FEDAPM
    | {"rho": 0.02, "relaxation": 1.6}
    | {"rho_schedule": {"growth": 1.7, "every": 2, "until": 7}},
    "participation": {"name": "probability", "probability": 0.15},
    "rounds": 9,
    "seed": 5,
}
"""With rounds without participants, which the schedule counts too."""


@pytest.fixture(scope="module")
def scheduled(features, tmp_path_factory):
    run = tmp_path_factory.mktemp("scheduled") / "run"
    go(run, features, **SCHEDULED)
    return run, Looked(run, features, **SCHEDULED)


def test_a_run_records_the_penalties_of_its_schedule(scheduled):
    run, states = scheduled
    records = rounds_of(run)[1:]
    assert 0 in [record["num_participants"] for record in records[1:6:2]]
    used = [record["rho"] for record in records]
    expected = [0.02 * 1.7 ** min((t - 1) // 2, 3) for t in range(1, 10)]
    assert used == pytest.approx(expected, rel=1e-14)
    for t in (3, 6, 9):
        own = torch.full((states.m,), 0.02, dtype=torch.float64)
        for record in records[:t]:
            if record["num_participants"]:
                own[ids(record["participants"])] = record["rho"]
        assert states.clients(t, "rho")[:, 0].tolist() == own.tolist()
        shared, dual = states.clients(t, "shared"), states.clients(t, "dual")
        votes = (own[:, None] * shared + dual).sum(0) / own.sum()
        torch.testing.assert_close(states.server(t), votes, rtol=0, atol=1e-13)
    assert len(set(own.tolist())) > 2


@pytest.mark.parametrize("t", [3, 4, 8])
def test_a_run_with_a_schedule_continues_from_its_middle(
    scheduled, features, tmp_path, t
):
    whole, _ = scheduled
    run = cut_at(t, whole, tmp_path / "run")
    go(run, features, resume=True, **SCHEDULED)
    assert digest_of(run) == digest_of(whole)
    assert rounds_of(run) == rounds_of(whole)


def test_a_schedule_and_a_stop_rule_change_no_penalty(scheduled, features, tmp_path):
    """Residuals are then measured, and the penalty is that of the schedule still."""
    changes = SCHEDULED | {"tolerance": {"absolute": 1e-12}}
    run = go(tmp_path / "run", features, **changes)
    assert digest_of(run) == digest_of(scheduled[0])
    used, expected = ([r.get("rho") for r in rounds_of(x)] for x in (run, scheduled[0]))
    assert used == expected


# Joint steps in the trainer --------------------------------------------------------


def test_one_joint_round_without_penalty_is_one_of_fedsim(features, tmp_path):
    """Every client's blocks, from the same mini-batches in the same order."""
    fedsim = {"name": "fedsim", "lr": 0.4 / 8, "batch_size": 8, "work": {"epochs": 2}}
    joint = JOINT | {
        "rho": 1e-30, "sigma": 0.0, "lr_personal": 0.4, "lr_shared": 0.4,
        "joint_work": {"epochs": 2},
    }  # fmt: skip
    found = {}
    for name, algorithm in (("ours", joint), ("other", fedsim)):
        run = go(
            tmp_path / name,
            features,
            algorithm=algorithm,
            participation="full",
            rounds=1,
        )
        states = {}
        for path in (run / "final").glob("clients-*.safetensors"):
            states |= load_file(path)
        found[name] = states
    for i in range(8):
        for block in ("shared", "personal"):
            ours, other = (found[name][f"{i}/{block}"] for name in ("ours", "other"))
            torch.testing.assert_close(ours, other, rtol=0, atol=1e-12)
