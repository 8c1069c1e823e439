"""Small experiments that between them use every part of the package there is."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import FEDAPM, FEDSIM, experiment

SMALL_HAR: dict[str, Any] = {
    "name": "har",
    "filters": 4,
    "hidden": 6,
    "heads": 2,
    "attention": 8,
    "classifier": 6,
    "dropout": 0.3,
}
ALTERNATING: dict[str, Any] = {
    "lr_personal": 0.1,
    "lr_shared": 0.1,
    "batch_size": 8,
    "personal_work": {"steps": 3},
    "shared_work": {"epochs": 1},
    "weight_decay": 0.01,
}
JOINT: dict[str, Any] = {
    key: v for key, v in FEDAPM.items() if not key.endswith("_work")
} | {
    "block_order": "joint",
    "joint_work": {"epochs": 1},
}
BALANCED: dict[str, Any] = FEDAPM | {
    "rho": 1e-3,
    "residual_balancing": {"ratio": 2.0},
    "relaxation": 1.6,
}
TUNING = {"block": "all", "lr": 0.2, "work": {"steps": 3}, "weight_decay": 0.01}
LOOKING = {"blocks": True, "dual_sum": True, "lagrangian": True}
EMPTY_ONLY = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]

GROUPS: dict[str, Any] = {
    "model": {"name": "user_parts:towers", "sides": {"x": 3, "y": 2}},
    "split": {"personal": ["inlet.*"]},
    "groups": [
        {"clients": [0, "5-6"], "model": {"hidden": 5, "sides": {"y": 2}}},
        {"names": ["client 3"], "model": {"hidden": 2, "sides": {"x": 3}}},
    ],
    "partially_shared": ["side_*"],
}

ADAM: dict[str, Any] = {"name": "adam", "betas": [0.8, 0.9]}
SMALL_STEPS: dict[str, Any] = FEDAPM | {"lr_personal": 0.02, "lr_shared": 0.03}


def solver_experiments(toy: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return experiments with other local steps than plain SGD, by name."""
    features = toy["features"]
    return {
        "solver-keep": experiment(
            features,
            rounds=4,
            participation={"name": "probability", "probability": 0.6},
            algorithm=SMALL_STEPS,
            optimizer=ADAM | {"state": "keep"},
            schedule={"name": "cosine", "warmup": 1, "unit": "step", "final": 0.1},
        ),
        "solver-joint": experiment(
            toy["odd"],
            algorithm=JOINT | {"weight_decay": 0.01},
            optimizer={
                "name": "sgd",
                "momentum": 0.9,
                "nesterov": True,
                "personal": "adamw",
            },
            clip={"norm": 0.1, "of": "direction"},
            accumulate_batches=2,
        ),
        "solver-scaffold": experiment(
            features,
            split=None,
            algorithm=SHARING_ALL["scaffold"] | {"lr": 0.02},
            optimizer="adam",
            clip={"norm": 1.0, "of": "loss"},
        ),
        "solver-ditto": experiment(
            features,
            split=None,
            algorithm=SHARING_ALL["ditto"],
            optimizer={"name": "rmsprop", "momentum": 0.5, "state": "keep"},
            schedule={"name": "step", "every": 1, "gamma": 0.5},
        ),
        "solver-groups": experiment(
            features,
            **GROUPS,
            algorithm=BALANCED | {"lr_personal": 0.02, "lr_shared": 0.02},
            optimizer={"name": "nadam", "state": "keep", "shared": {"name": "adam"}},
            schedule={"name": "linear", "warmup": 0.5, "personal": "constant"},
        ),
    }


def stacked_experiments(toy: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return experiments whose clients are trained in stacks, by name."""
    features, odd = toy["features"], toy["odd"]
    everyone: dict[str, Any] = {"participation": "full"}
    return {
        "stacked": experiment(odd, stacked=3, **everyone),
        "stacked-auto": experiment(
            features,
            stacked="auto",
            algorithm=JOINT,
            optimizer=ADAM,
            client_weights="samples",
        ),
        "stacked-rows": experiment(
            features,
            stacked=4,
            algorithm=SMALL_STEPS,
            optimizer=ADAM | {"state": "keep"},
            schedule={"name": "cosine", "unit": "step"},
            clip={"norm": 0.1},
            accumulate_batches=2,
            **everyone,
        ),
        "stacked-groups": experiment(
            features, **GROUPS, stacked=3, algorithm=BALANCED, diagnostics=LOOKING,
            **everyone,
        ),
        "stacked-pfedme": experiment(
            odd, split=None, stacked=5, algorithm=SHARING_ALL["pfedme"], **everyone
        ),
        "stacked-tuned": experiment(
            odd, stacked=3, algorithm=JOINT, **everyone,
            evaluation={
                "every": 1,
                "shared_block": "both",
                "fine_tune": {
                    "block": "all", "lr": 0.05, "work": {"epochs": 2}, "batch_size": 7,
                    "compare": True,
                },
            },
        ),
        "stacked-numbers": experiment(
            toy["numbers"], stacked=3, algorithm=JOINT, **everyone,
            task={"name": "regression", "loss_function": "huber", "delta": 0.5},
        ),
        "stacked-babu": experiment(
            odd, stacked=4, algorithm=SHARING_PART["fedbabu"], **everyone
        ),
        "stacked-scaffold": experiment(
            features, split=None, stacked=8, algorithm=SHARING_ALL["scaffold"],
            optimizer="adam",
        ),
    }  # fmt: skip


def experiments(toy: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return the experiments by name; between them they use every part there is."""
    features, odd = toy["features"], toy["odd"]
    normed = {
        "model": "user_parts:batch_norm",
        "split": {"personal": ["3.*"]},
        "participation": {"name": "random", "count": 3},
    }
    return {
        "plain": experiment(features),
        "contiguous": experiment(features, placement="contiguous"),
        "round-robin": experiment(features, placement="round-robin"),
        "own-placement": experiment(features, placement="user_parts:all_on_last"),
        "staying": experiment(features, scheduling="static"),
        "scratch": experiment(features, scratch=gettempdir()),
        "dropout": experiment(
            toy["motion"],
            model=SMALL_HAR,
            split={"personal": ["*_conv.*"]},
            participation="full",
        ),
        "ragged": experiment(
            toy["ragged"],
            model=SMALL_HAR,
            split={"shared": ["fuse_att.*", "classifier.*"]},
            participation={"name": "probability", "probability": 0.6},
        ),
        "auto-split": experiment(
            odd,
            split={"auto": {"rounds": 2, "clients": 6, "threshold": 1.2}},
            diagnostics={"multiplier": True},
            dtype="float64",
        ),
        "float64": experiment(
            features,
            dtype="float64",
            participation={
                "name": "probability",
                "probability": [0.0, 1.0, 0.5, 0.5, 0.2, 0.9, 0.9, 0.1],
            },
            algorithm=FEDAPM | {"weight_decay": 0.01, "alpha_in_v_step": False},
        ),
        "criterion": experiment(
            odd,
            client_weights="samples",
            split={"rule": "user_parts:is_head"},
            algorithm=FEDAPM
            | {"shared_work": {"xi": 0.01, "decay": 0.5, "max_epochs": 4}},
        ),
        "buffers-local": experiment(
            features, **normed, algorithm=FEDAPM | {"v_step_at": "local"}
        ),
        "buffers-mean": experiment(
            features, **normed, buffers="mean", algorithm=FEDAPM | {"u_init": "local"}
        ),
        "full-batch": experiment(
            odd,
            model="logistic",
            split={"personal": ["linear.bias"]},
            participation="full",
            algorithm=FEDAPM | {"batch_size": 0},
            evaluation={"every": 1, "shared_block": "client", "pooled": False},
        ),
        "frozen-front": experiment(
            features,
            algorithm=FEDAPM | {"personal_work": {"epochs": 3}},
            evaluation={"every": 1, "clients": "participants"},
        ),
        "fine-tuned": experiment(
            odd,
            client_weights="samples",
            split=None,
            algorithm=SHARING_ALL["scaffold"],
            evaluation={"every": 1, "fine_tune": TUNING | {"compare": True}},
        ),
        "both-copies": experiment(
            features,
            **normed,
            buffers="mean",
            algorithm=FEDAPM | {"dual_step": 0.7},
            evaluation={
                "every": 2,
                "shared_block": "both",
                "fine_tune": TUNING | {"block": "personal", "batch_size": 4},
            },
        ),
        "regression": experiment(
            toy["numbers"], task="regression", diagnostics={"multiplier": True}
        ),
        "multilabel": experiment(
            toy["tags"], task={"name": "multilabel", "balanced": True}
        ),
        "weights": experiment(
            toy["partial"], task="multilabel", diagnostics={"multiplier": True}
        ),
        "codes-stacked": experiment(
            toy["rows"],
            model={"name": "tabular", "embedding": 3, "hidden": [6]},
            split={"personal": ["ward_embed.*", "head.*"]},
            stacked=4,
            algorithm=JOINT,
        ),
        "ordinal": experiment(odd, task="ordinal"),
        "next-token": experiment(
            toy["texts"],
            task={"name": "next-token", "label_smoothing": 0.1},
            model={"name": "language-model", "embedding": 3, "hidden": 4},
        ),
        "segmentation": experiment(
            toy["masks"],
            task={"name": "segmentation", "class_weights": "balanced"},
            model={"name": "unet", "width": 4, "depth": 1},
        ),
        "class-weights": experiment(
            odd,
            task={
                "name": "classification", "class_weights": "balanced", "focal": 1.5,
            },
        ),
        "fedalt": experiment(features, algorithm={"name": "fedalt"} | ALTERNATING),
        "fedsim": experiment(features, algorithm={"name": "fedsim"} | FEDSIM),
        "fedavg": experiment(
            odd,
            split=None,
            client_weights="samples",
            algorithm={"name": "fedavg"} | FEDSIM,
        ),
        "local": experiment(
            features, split=None, algorithm={"name": "local"} | FEDSIM
        ),
        "only-the-empty": experiment(
            odd,
            split=None,
            client_weights="samples",
            participation={"name": "probability", "probability": EMPTY_ONLY},
            algorithm={"name": "fedavg"} | FEDSIM,
        ),
        "no-participant": experiment(
            features, participation={"name": "probability", "probability": 1e-12}
        ),
        "joint": experiment(odd, algorithm=JOINT | {"weight_decay": 0.01}),
        "participants": experiment(
            features,
            participation={"name": "probability", "probability": 0.3},
            algorithm=FEDAPM | {"server_average": "participants", "dual_step": 0.3},
            diagnostics=LOOKING,
        ),
        "dual-share": experiment(
            features,
            participation={"name": "probability", "probability": 0.3},
            algorithm=FEDAPM | {"server_average": "participants", "dual_share": 0.5},
            schedule={"name": "cosine", "final": 0.1},
        ),
        "balance": experiment(features, rounds=6, algorithm=BALANCED),
        "balance-down": experiment(
            features,
            rounds=6,
            dtype="float64",
            algorithm=JOINT
            | {"rho": 30.0, "lr_shared": 0.02}
            | {
                "residual_balancing": {
                    "ratio": 1.1,
                    "factor": 1.5,
                    "residuals": "relative",
                }
            },
        ),
        "diagnostics": experiment(
            odd,
            client_weights="samples",
            diagnostics=LOOKING,
            algorithm=FEDAPM
            | {"shared_work": {"xi": 0.01, "decay": 0.5, "max_epochs": 2}}
            | {"weight_decay": 0.02},
        ),
        "diagnostics-buffers": experiment(
            features,
            **normed,
            buffers="mean",
            algorithm=BALANCED,
            diagnostics=LOOKING,
        ),
        "tolerance": experiment(
            features,
            rounds=20,
            model="logistic",
            split={"personal": ["linear.bias"]},
            participation="full",
            algorithm=FEDAPM
            | {"batch_size": 0, "weight_decay": 0.1}
            | {"lr_shared": 1.0, "lr_personal": 1.0}
            | {"personal_work": {"steps": 8}, "shared_work": {"steps": 8}},
            tolerance={"relative": 0.2},
            diagnostics={"blocks": True},
        ),
        "groups": experiment(
            features, **GROUPS, algorithm=BALANCED, diagnostics=LOOKING
        ),
        "groups-all-shared": experiment(
            features,
            **GROUPS
            | {
                "split": None,
                "groups": [{"clients": [1, "4-5"], "model": {"sides": {"y": 2}}}],
            },
            algorithm=SHARING_ALL["scaffold"],
            client_weights="samples",
        ),
        "adapters": experiment(
            features,
            model={
                "name": "lora",
                "base": {"name": "mlp", "hidden": [8, 6]},
                "frozen": ["body.0.*"],
            },
            split={"shared": ["*.lora_*"]},
        ),
        "ends": experiment(
            features,
            model={"name": "mlp", "hidden": [8, 6]},
            split={"first": 1, "last": 1},
        ),
        "nothing-personal": experiment(
            odd,
            split={"personal": []},
            algorithm=BALANCED | {"u_init": "local"},
            diagnostics=LOOKING,
        ),
        "nothing-shared": experiment(
            odd,
            split={"shared": []},
            algorithm=FEDAPM | {"server_average": "participants"},
            diagnostics=LOOKING,
        ),
        "lacking": experiment(
            toy["lacking"],
            model={"name": "har", "filters": 2, "hidden": 4, "attention": 4},
            split={"personal": ["*_conv.*"]},
            groups=[{"missing_inputs": ["gyro"]}, {"missing_inputs": ["acc"]}],
            partially_shared=["acc_rnn.*", "gyro_rnn.*"],
            algorithm=FEDAPM | {"server_average": "participants"},
        ),
        **_in_client_units(features, odd),
        **{
            name: experiment(features, split=None, algorithm=algorithm)
            for name, algorithm in SHARING_ALL.items()
        },
        **{
            name: experiment(features, algorithm=algorithm)
            for name, algorithm in SHARING_PART.items()
        },
        **solver_experiments(toy),
        **stacked_experiments(toy),
    }  # fmt: skip


def _in_client_units(features: Path, odd: Path) -> dict[str, dict[str, Any]]:
    """Return an experiment for each method that works on a client's own loss."""
    uneven: dict[str, Any] = {
        "client_weights": "samples",
        "participation": {"name": "probability", "probability": 0.4},
        "diagnostics": LOOKING,
    }
    own = FEDAPM | {"units": "client", "rho": 0.6, "lr_shared": 0.1}
    balanced = {"residual_balancing": {"ratio": 2.0}, "relaxation": 1.6}
    whole = {
        name: SHARING_ALL[name] | {"units": "client", "rho": 0.6}
        for name in ("fedadmm", "fedadmm-participants", "iiadmm", "iceadmm", "flame")
    }
    whole["fedadmm"] |= {"lr": 0.1}
    whole["fedadmm-participants"] |= {"lr": 0.1}
    whole["iiadmm"] |= {"zeta": 5.0}
    quiet = {**uneven, "diagnostics": {"dual_sum": True}}
    return {
        "units-fedapm": experiment(odd, **uneven, algorithm=own | balanced, rounds=6),
        "units-schedule": experiment(
            odd,
            **uneven,
            algorithm=own | {"rho_schedule": {"growth": 1.5, "every": 2, "until": 5}},
            rounds=7,
        ),
        "units-participants": experiment(
            odd,
            **uneven,
            algorithm=own | {"server_average": "participants", "dual_step": 0.3},
        ),
        "units-groups": experiment(
            features, **GROUPS | quiet, algorithm=own | balanced
        ),
        **{
            f"units-{name}": experiment(odd, **quiet, split=None, algorithm=algorithm)
            for name, algorithm in whole.items()
        },
    }


TOYS = (
    "features", "odd", "motion", "ragged", "lacking", "numbers", "tags", "texts",
    "masks", "partial", "rows",
)  # fmt: skip
NAMES = tuple(experiments(dict.fromkeys(TOYS, Path())))
SAME = (
    "plain",
    "contiguous",
    "round-robin",
    "own-placement",
    "staying",
    "scratch",
)
"""They differ only in where clients live, are worked on and are kept."""
