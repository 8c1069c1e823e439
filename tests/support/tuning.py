"""A small data set with validation parts, and studies on it."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.pipeline import plan, prepare
from fedapm_mpi.config.loader import validate
from fedapm_mpi.studies.tune.record import Result, Trial
from fedapm_mpi.studies.tune.study import Request, Study
from fedapm_mpi.studies.tune.trials import train_here
from fedapm_mpi.training.preemption import PreemptionGuard
from tests.support.processes.cli_runs import experiment

CLIENTS, EACH, FEATURES = 6, 30, 4
RUNGS = (Fraction(1, 2), Fraction(1))

JOINT: dict[str, Any] = {
    "name": "fedapm",
    "block_order": "joint",
    "joint_work": {"epochs": 2},
    "batch_size": 8,
    "rho": 0.3,
    "sigma": 0.0,
    "lr_personal": 0.1,
    "lr_shared": 0.1,
}


def write_data(root: Path, val: float = 0.2, features: int = FEATURES) -> Path:
    """Prepare clients whose levels differ, with validation parts unless `val` is 0."""
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    client = np.repeat(np.arange(CLIENTS), EACH)
    x = rng.normal(size=(CLIENTS * EACH, features))
    level = rng.normal(size=CLIENTS)[client]
    y = (x[:, 0] + level + 0.3 * rng.normal(size=len(x)) > 0).astype(int)
    np.savez(root / "made.npz", x_f=x.astype(np.float32), y=y, client=client)
    values = {"split": "random", "test": 0.2, "val": val}
    prepare(plan("arrays", values), root / "made.npz", root / "data")
    return root / "data"


def values_of(data: Path, **changes: Any) -> dict[str, Any]:
    """Return a small experiment on it, full participation, six rounds."""
    usual = {"algorithm": JOINT, "participation": "full", "rounds": 6}
    return experiment(data, **{**usual, **changes})


def request(data: Path, out: Path, **changes: Any) -> Request:
    """Return a study of eight trials in two generations on it."""
    config = changes.pop("config", None) or values_of(data)
    usual: dict[str, Any] = {
        "config": validate(config, "t"),
        "space": {},
        "trials": 8,
        "width": 4,
        "rungs": RUNGS,
        "keep": Fraction(1, 2),
        "seed": 3,
        "out": out,
    }
    return Request(**{**usual, **changes})


def trial(number: int, *values: float, **changes: Any) -> Trial:
    """Return a trial of eight rounds with a value at each of its first rungs."""
    found = Trial(number, changes.pop("generation", 0), changes.pop("params", {}))
    found.rungs = changes.pop("rungs", [2, 4, 8])
    found.results = [
        Result(rounds, value)
        for rounds, value in zip(found.rungs, values, strict=False)
    ]
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def settle_all(
    study: Study,
    most: int | None = None,
    order: Callable[[list[tuple[Trial, int]]], None] = lambda todo: None,
) -> int:
    """Train until a study is over, or for some runs at most; return the runs."""
    runs = 0
    while todo := study.advance():
        order(todo)
        for one, rounds in todo:
            if runs == most:
                return runs
            values = study.rung_values(one, rounds)
            ended = train_here(values, study.run_of(one), PreemptionGuard())
            assert study.settle(one, rounds, ended)
            runs += 1
    return runs
