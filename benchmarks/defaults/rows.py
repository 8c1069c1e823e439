"""What the study varies: for each row, values by name and the options they change.

Every row is complete in itself, with all options of the centre, so that it means the
same whatever the package's defaults are.
"""

import copy
from collections.abc import Mapping
from typing import Any

from fedapm_mpi.config.overrides import merge

Options = dict[str, Any]

CIFAR = ("cifar-b0.3", "cifar-b5")

ROUNDS = 20
LR = 0.004
SPLITS: dict[str, Options] = {
    "nothing": {"personal": []},
    "biases": {"personal": ["*bias*"]},
    "last layer": {"last": 1},
}

SOLVER: Options = {
    "rounds": ROUNDS,
    "optimizer": {"name": "adam", "betas": [0.9, 0.99]},
    "schedule": {"name": "cosine", "warmup": 2, "final": 0.05},
}

FEDAPM: Options = {
    **SOLVER,
    "split": SPLITS["biases"],
    "algorithm": {
        "name": "fedapm",
        "block_order": "joint",
        "joint_work": {"epochs": 2},
        "batch_size": 16,
        "lr_personal": LR,
        "lr_shared": LR,
        "rho": 0.1,
        "sigma": 0.0,
        "dual_step": 1.0,
        "server_average": "all",
    },
}
"""The centre of the study of FedAPM."""


def changed(centre: Options, *changes: Options) -> Options:
    """Return a copy with changes merged in; a ``None`` removes a key."""
    found = copy.deepcopy(centre)
    for one in changes:
        merge(found, copy.deepcopy(one))
    return {key: value for key, value in found.items() if value is not None}


def varied(centre: Options, option: str, *values: Any) -> dict[str, Options]:
    """Return the centre with one option of the algorithm at each of some values."""
    return {str(v): changed(centre, {"algorithm": {option: v}}) for v in values}


def rates(centre: Options, *values: float) -> dict[str, Options]:
    """Return the centre with each step size of the algorithm at some values."""
    names = [one for one in centre["algorithm"] if one.startswith("lr")]
    return {
        str(v): changed(centre, {"algorithm": dict.fromkeys(names, v)}) for v in values
    }


GRID = (0.001, 0.002, 0.004, 0.008, 0.016)
SGD_GRID = (0.01, 0.03, 0.1, 0.3, 1.0)


def few(centre: Options) -> Options:
    """Return the centre at 30 % participation, for twice as many rounds."""
    part = {"name": "random", "fraction": 0.3}
    return changed(centre, {"rounds": 2 * ROUNDS, "participation": part})


def with_solver(name: str, centre: Options, **options: Any) -> Options:
    """Return the centre with another optimizer."""
    return changed(
        centre, {"optimizer": None}, {"optimizer": {"name": name, **options}}
    )


def passes(centre: Options, epochs: int) -> Options:
    """Return the centre with other work a round, at equal passes in all."""
    rounds = ROUNDS * 2 // epochs
    work = {"joint_work": {"epochs": epochs}}
    return changed(centre, {"rounds": rounds, "algorithm": work})


def fedapm_rows(centre: Options) -> dict[str, dict[str, Options]]:
    """Return what is varied of FedAPM and of the solver."""
    sparse = few(centre)
    rows = {
        "lr": rates(centre, *GRID),
        "rho": varied(centre, "rho", 0.03, 0.1, 0.3, 1.0, 3.0),
        "schedule": {
            "constant": changed(centre, {"schedule": None}),
            "cosine": centre,
            "cosine, no warm-up": changed(centre, {"schedule": {"warmup": 0}}),
            "cosine to 0": changed(centre, {"schedule": {"final": 0.0}}),
            "linear": changed(centre, {"schedule": None}, {"schedule": {
                "name": "linear", "warmup": 2, "final": 0.05}}),
        },
        "split": {k: changed(centre, {"split": None}, {"split": v})
                  for k, v in SPLITS.items()},
        "sigma": varied(centre, "sigma", 0.0, 0.01, 0.1, 1.0),
        "dual_step": varied(centre, "dual_step", 0.1, 0.3, 1.0),
        "few: server_average, dual_step": {
            f"{average}, {step}": changed(sparse, {"algorithm": {
                "server_average": average, "dual_step": step}})
            for average in ("all", "participants") for step in (0.3, 1.0)
        },
        "batch_size": varied(centre, "batch_size", 8, 16, 32, 64),
        "passes a round": {str(n): passes(centre, n) for n in (1, 2, 4)},
        "sgd: lr": rates(with_solver("sgd", centre), *SGD_GRID),
        "momentum: lr": rates(with_solver("sgd", centre, momentum=0.9), *SGD_GRID),
        "betas": {str(b): with_solver("adam", centre, betas=[0.9, b])
                  for b in (0.99, 0.999)},
        "clip": {"none": centre, "1": changed(centre, {"clip": {"norm": 1.0}})},
        "rounds": {str(n): changed(centre, {"rounds": n}) for n in (10, 20, 30, 60)},
        "few: rho": {k: changed(few(v), {"algorithm": {
            "server_average": "participants"}})
            for k, v in varied(centre, "rho", 0.03, 0.1, 0.3, 1.0).items()},
        "few: lr": {k: changed(few(v), {"algorithm": {
            "server_average": "participants"}})
            for k, v in rates(centre, *GRID).items()},
    }  # fmt: skip
    return rows


def method(name: str, **options: Any) -> Options:
    """Return another method with the common defaults."""
    return {**SOLVER, "algorithm": {"name": name, "batch_size": 16, **options}}


TWO = {"epochs": 2}
ONE = {"epochs": 1}

METHODS: Mapping[str, Options] = {
    "local": method("local", lr=LR, work=TWO),
    "fedavg": method("fedavg", lr=LR, work=TWO),
}


def method_rows() -> dict[str, dict[str, Options]]:
    """Return what is varied of the other methods."""
    return {f"{name}: lr": rates(one, *GRID) for name, one in METHODS.items()}


ROWS: dict[str, dict[str, Options]] = {**fedapm_rows(FEDAPM), **method_rows()}
