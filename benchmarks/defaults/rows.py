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
LR = 0.008
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


OTHERS: dict[str, tuple[float, ...]] = {
    "adamw": (0.008,),
    "nadam": (0.004, 0.008),
    "radam": (0.008, 0.016),
    "adamax": (0.008, 0.016),
    "rmsprop": (0.002, 0.004),
    "adagrad": (0.01, 0.03, 0.1),
    "adadelta": (0.3, 1.0, 3.0),
    "adafactor": (0.01, 0.03, 0.1),
    "asgd": (0.1, 0.3),
    "rprop": (0.001, 0.004),
}
"""Further optimizers, with step sizes to try."""


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
    longer = changed(centre, {"rounds": 30})
    rows = {
        "lr": rates(centre, *GRID),
        "rho, lr 0.004": {
            k: changed(v, {"algorithm": {"lr_personal": 0.004, "lr_shared": 0.004}})
            for k, v in varied(centre, "rho", 0.03, 0.1, 0.3, 1.0, 3.0).items()
        },
        "rho": varied(centre, "rho", 0.1, 0.2, 0.3),
        "schedule": {
            "constant": changed(centre, {"schedule": None}),
            "cosine": centre,
            "cosine, no warm-up": changed(centre, {"schedule": {"warmup": 0}}),
            "cosine to 0": changed(centre, {"schedule": {"final": 0.0}}),
            "linear": changed(centre, {"schedule": None}, {"schedule": {
                "name": "linear", "warmup": 2, "final": 0.05}}),
        },
        "rounds 30: schedule": {
            "constant": changed(longer, {"schedule": None}),
            "cosine": longer,
            "linear": changed(longer, {"schedule": None}, {"schedule": {
                "name": "linear", "warmup": 2, "final": 0.05}}),
        },
        "split": {k: changed(centre, {"split": None}, {"split": v})
                  for k, v in SPLITS.items()},
        "sigma": varied(centre, "sigma", 0.0, 0.01, 0.1, 1.0),
        "dual_step": varied(centre, "dual_step", 0.1, 0.3, 1.0),
        "few, lr 0.004: server_average, dual_step": {
            f"{average}, {step}": changed(sparse, {"algorithm": {
                "server_average": average, "dual_step": step,
                "lr_personal": 0.004, "lr_shared": 0.004}})
            for average in ("all", "participants") for step in (0.3, 1.0)
        },
        "batch_size": varied(centre, "batch_size", 8, 16, 32, 64),
        "passes a round": {str(n): passes(centre, n) for n in (1, 2, 4)},
        "sgd: lr": rates(with_solver("sgd", centre), *SGD_GRID),
        "momentum: lr": rates(with_solver("sgd", centre, momentum=0.9), *SGD_GRID),
        "betas": {str(b): with_solver("adam", centre, betas=[0.9, b])
                  for b in (0.99, 0.999)},
        "other optimizers: name, lr": {
            f"{name}, {lr}": changed(
                with_solver(name, centre),
                {"algorithm": {"lr_personal": lr, "lr_shared": lr}})
            for name, sizes in OTHERS.items() for lr in sizes
        },
        "clip": {"none": centre, "1": changed(centre, {"clip": {"norm": 1.0}})},
        "order": {
            "joint, 2": centre,
            **{f"alternate, {n} and {n}": changed(
                centre, {"algorithm": {"block_order": "alternate", "joint_work": None,
                         "personal_work": {"epochs": n}, "shared_work": {"epochs": n}}})
               for n in (1, 2)},
        },
        "rounds": {str(n): changed(centre, {"rounds": n}) for n in (10, 20, 30, 60)},
        "few: rho": {k: changed(few(v), {"algorithm": {
            "server_average": "participants"}})
            for k, v in varied(centre, "rho", 0.03, 0.1, 0.2, 0.3, 1.0).items()},
        "few: lr": {k: changed(few(v), {"algorithm": {
            "server_average": "participants"}})
            for k, v in rates(centre, *GRID).items()},
    }  # fmt: skip
    return rows


def method(name: str, **options: Any) -> Options:
    """Return another method with the common defaults."""
    return {**SOLVER, "algorithm": {"name": name, "batch_size": 16, **options}}


def parted(name: str, **options: Any) -> Options:
    """Return another method that splits the model, biases personal."""
    return {**method(name, **options), "split": SPLITS["biases"]}


ONE, TWO = {"epochs": 1}, {"epochs": 2}

METHODS: Mapping[str, Options] = {
    "local": method("local", lr=LR, work=TWO),
    "fedavg": method("fedavg", lr=LR, work=TWO),
    "fedprox": method("fedprox", lr=LR, work=TWO, mu=0.1),
    "fedavg-ft": method(
        "fedavg-ft", lr=LR, work=TWO, lr_fine_tune=LR, fine_tune_work=TWO
    ),
    "ditto": method(
        "ditto", lr_global=LR, lr_personal=LR, lam=0.1, global_work=TWO,
        personal_work=TWO,
    ),
    "pfedme": method(
        "pfedme", lr_personal=LR, lam=1.0, inner_steps=1, eta=0.1, work=TWO
    ),
    "flame": method("flame", lr_personal=LR, lam=0.1, rho=0.1, personal_work=TWO),
    "scaffold": method("scaffold", lr=LR, work=TWO),
    "feddyn": method("feddyn", lr=LR, work=TWO, penalty=0.1),
    "fedadmm": method("fedadmm", lr=LR, work=TWO, rho=0.1),
    "iiadmm": method("iiadmm", zeta=1 / LR - 0.1, work=TWO, rho=0.1),
    "iceadmm": method("iceadmm", curvature=1 / LR - 0.1, work=TWO, rho=0.1),
    "fedsim": parted("fedsim", lr=LR, work=TWO),
    "fedper": parted("fedper", lr=LR, work=TWO),
    "fedalt": parted(
        "fedalt", lr_personal=LR, lr_shared=LR, personal_work=ONE, shared_work=ONE
    ),
    "fedrep": parted("fedrep", lr_head=LR, lr_body=LR, head_work=ONE, body_work=ONE),
    "fedbabu": parted(
        "fedbabu", lr=LR, work=TWO, lr_fine_tune=LR, fine_tune_work=TWO
    ),
}  # fmt: skip
"""The centres of the study of the other methods."""


def options(name: str, **changes: Any) -> Options:
    """Return a method's centre with other options."""
    return changed(METHODS[name], {"algorithm": changes})


def splits(name: str) -> dict[str, Options]:
    """Return a method's centre with several splits."""
    return {
        key: changed(METHODS[name], {"split": None}, {"split": SPLITS[key]})
        for key in ("biases", "last layer")
    }


def plain(name: str, **changes: Any) -> Options:
    """Return a method's centre by SGD."""
    return with_solver("sgd", options(name, **changes))


def epochs(name: str, option: str, *numbers: int) -> dict[str, Options]:
    """Return a method's centre with several lengths of a phase."""
    return {str(n): options(name, **{option: {"epochs": n}}) for n in numbers}


def method_rows() -> dict[str, dict[str, Options]]:
    """Return what is varied of the other methods."""
    m = METHODS
    return {
        "fedprox: mu": varied(m["fedprox"], "mu", 0.001, 0.01, 0.1, 1.0),
        "ditto: lam": varied(m["ditto"], "lam", 0.01, 0.1, 0.5, 1.0, 2.0),
        "flame: lam, rho": {
            f"{lam}, {rho}": options("flame", lam=lam, rho=rho)
            for lam, rho in ((0.01, 0.1), (0.1, 0.01), (0.1, 0.1), (0.1, 1.0),
                             (1.0, 0.1), (1.0, 1.0))
        },
        "pfedme: lam, eta lam, inner_steps": {
            f"{lam}, {share}, {k}": options(
                "pfedme", lam=lam, eta=share / lam, inner_steps=k)
            for lam, share, k in ((15.0, 0.1, 5), (1.0, 0.1, 1), (1.0, 0.1, 5),
                                  (1.0, 1.0, 1), (0.1, 0.1, 1), (0.1, 1.0, 1),
                                  (0.1, 0.3, 1), (0.1, 1.0, 5))
        },
        "feddyn: penalty": varied(m["feddyn"], "penalty", 0.01, 0.03, 0.1, 0.3, 1.0),
        "fedadmm: rho": varied(m["fedadmm"], "rho", 0.01, 0.03, 0.1, 0.3, 1.0),
        "iiadmm: solver, rho": {
            "adam, 0.1": m["iiadmm"],
            **{f"sgd, {rho}": plain("iiadmm", rho=rho, zeta=10 - rho)
               for rho in (0.1, 0.3, 1.0)},
        },
        "iceadmm: solver, step, rho, init": {
            f"{name}, {lr}, {rho}, {init}": make(
                "iceadmm", rho=rho, init=init, curvature=max(0.0, 1 / lr - rho))
            for name, make, lr, rho, init in (
                ("adam", options, LR, 0.1, "global"),
                ("adam", options, LR, 1.0, "global"),
                ("sgd", plain, 0.1, 0.3, "global"), ("sgd", plain, 0.1, 1.0, "global"),
                ("sgd", plain, 0.1, 3.0, "global"), ("sgd", plain, 0.3, 1.0, "global"),
                ("sgd", plain, 0.03, 1.0, "global"), ("sgd", plain, 0.1, 1.0, "local"),
                ("sgd", plain, 0.1, 3.0, "local"))
        },
        "pfedme: work, inner_steps": {
            f"{n}, {k}": options("pfedme", lam=0.1, eta=10.0, inner_steps=k,
                                 work={"epochs": n})
            for n, k in ((1, 2), (2, 2), (1, 5), (2, 5))
        },
        "scaffold: solver": {
            "adam, steps": m["scaffold"],
            "adam, gradient": options("scaffold", control_variate="gradient"),
            "sgd 0.1, steps": plain("scaffold", lr=0.1),
            "sgd 0.3, steps": plain("scaffold", lr=0.3),
            "sgd 0.1, gradient": plain("scaffold", lr=0.1, control_variate="gradient"),
        },
        "fedavg-ft: lr_fine_tune": varied(
            m["fedavg-ft"], "lr_fine_tune", LR / 4, LR / 2, LR, 2 * LR),
        "fedavg-ft: fine_tune_work": epochs("fedavg-ft", "fine_tune_work", 1, 2, 5),
        "fedbabu: split": splits("fedbabu"),
        "fedbabu: lr_fine_tune": varied(
            m["fedbabu"], "lr_fine_tune", LR / 4, LR / 2, LR, 2 * LR),
        "fedbabu: fine_tune_work": epochs("fedbabu", "fine_tune_work", 1, 2, 5),
        "fedper: split": splits("fedper"),
        "fedrep: split": splits("fedrep"),
        "fedrep: head_work": epochs("fedrep", "head_work", 1, 2, 5),
        "fedrep: head_work, body_work": {
            f"{a}, {b}": options(
                "fedrep", head_work={"epochs": a}, body_work={"epochs": b})
            for a, b in ((1, 1), (2, 2), (5, 1), (5, 2))
        },
        "fedalt: work": {
            f"{a}, {b}": options(
                "fedalt", personal_work={"epochs": a}, shared_work={"epochs": b})
            for a, b in ((1, 1), (1, 2), (2, 1), (2, 2))
        },
        "fedalt: split": splits("fedalt"),
        "fedalt, 2 and 2 passes: split": {
            key: changed(one, {"algorithm": {"personal_work": TWO, "shared_work": TWO}})
            for key, one in splits("fedalt").items()
        },
        "fedavg: lr": rates(m["fedavg"], *GRID),
        "local: lr": rates(m["local"], *GRID),
    }  # fmt: skip


ALONE: dict[str, Options] = {
    "fedapm": {"algorithm": "fedapm"},
    "local": {"algorithm": "local"},
    "fedavg": {"algorithm": "fedavg"},
}
"""What a user writes who leaves everything to the package, as a final check."""

ROWS: dict[str, dict[str, Options]] = {
    **fedapm_rows(FEDAPM),
    **method_rows(),
    "by name: method": ALONE,
}
