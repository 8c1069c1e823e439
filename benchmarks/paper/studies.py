r"""What is compared with what: data sets, methods, grids, all in one place.

Every method goes over a participant's data the same number of times a round
(``passes``); methods with two phases split them. Step sizes are given on the client's
own loss: methods whose gradients are scaled by the client weight 1/m (FedAPM) get m
times the step and 1/m of the penalty, which is the same thing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedapm_mpi.algorithms import algorithms

Options = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One data set under the fair protocol."""

    data: str
    """Directory of the data set; ``{seed}`` stands for the run's seed."""

    clients: int
    model: Options
    personal: tuple[str, ...]
    """Patterns of the personal parameters."""

    batch_size: int
    passes: int
    """Passes over a participant's data in a round; even."""

    rounds: int
    tuning_rounds: int
    fraction: float = 0.3
    every: int = 2
    """Rounds between evaluations of all clients."""

    learning_rates: tuple[float, ...] = (0.1, 0.3, 0.9)
    """The grid that every method's step size is first chosen from."""

    seeds: tuple[int, ...] = (1, 2, 3)
    target: float = 0.8
    """Accuracy to which rounds are counted."""


HAR: Options = {"name": "har", "hidden": 64, "filters": 16, "attention": 128}

STUDIES: dict[str, Study] = {
    "watch": Study(
        data="watch",
        clients=20,
        model=HAR,
        personal=("acc_conv.*", "gyro_conv.*"),
        batch_size=16,
        passes=4,
        rounds=60,
        tuning_rounds=30,
    ),
    "hapt": Study(
        data="hapt",
        clients=30,
        model=HAR,
        personal=("acc_conv.*", "gyro_conv.*"),
        batch_size=64,
        passes=4,
        rounds=40,
        tuning_rounds=20,
        target=0.7,
    ),
    "av_digits": Study(
        data="av_digits",
        clients=30,
        model={"name": "benchmarks.paper.models:picture_sound"},
        personal=("picture_*", "sound_*"),
        batch_size=10,
        passes=6,
        rounds=50,
        tuning_rounds=20,
        learning_rates=(0.03, 0.1, 0.3),
    ),
    "av_digits-film": Study(
        data="av_digits-film",
        clients=30,
        model={"name": "audio-video"},
        personal=("audio_*", "video_*"),
        batch_size=10,
        passes=6,
        rounds=50,
        tuning_rounds=20,
    ),
    "cifar10": Study(
        data="cifar10-fair-b0.5-s{seed}",
        clients=20,
        model={"name": "cnn"},
        personal=("fc1.*", "fc2.*"),
        batch_size=50,
        passes=2,
        rounds=100,
        tuning_rounds=30,
        every=5,
        learning_rates=(0.01, 0.03, 0.1),
        target=0.6,
    ),
}


@dataclass(frozen=True)
class Setting:
    """What is chosen on the validation part."""

    lr: float
    """Step size on the client's own loss."""

    coefficient: float | None = None
    """The method's own number, if it has one; see `Method.coefficients`."""


@dataclass(frozen=True)
class Method:
    """One method: from a study and a setting to the algorithm's options."""

    algorithm: Callable[[Study, Setting], Options]
    coefficients: tuple[float, ...] = ()
    """Values to try, the first of them while the step size is chosen; methods without
    a coefficient try as many further step sizes instead."""


def _epochs(number: int) -> Options:
    return {"epochs": number}


def _one_phase(name: str, *coefficients: str) -> Callable[[Study, Setting], Options]:
    def algorithm(study: Study, setting: Setting) -> Options:
        extra = dict.fromkeys(coefficients, setting.coefficient)
        return {
            "name": name,
            "lr": setting.lr,
            "batch_size": study.batch_size,
            "work": _epochs(study.passes),
            **extra,
        }

    return algorithm


def _fedalt(study: Study, setting: Setting) -> Options:
    half = _epochs(study.passes // 2)
    return {
        "name": "fedalt",
        "lr_personal": setting.lr,
        "lr_shared": setting.lr,
        "batch_size": study.batch_size,
        "personal_work": half,
        "shared_work": half,
    }


def _fedapm(
    order: str, server_average: str = "all"
) -> Callable[[Study, Setting], Options]:
    def algorithm(study: Study, setting: Setting) -> Options:
        assert setting.coefficient is not None
        m, half = study.clients, _epochs(study.passes // 2)
        works: Options = {"personal_work": half, "shared_work": half}
        if order == "joint":
            works = {"joint_work": _epochs(study.passes)}
        return {
            "name": "fedapm",
            "units": "weighted",
            "block_order": order,
            "server_average": server_average,
            "lr_personal": setting.lr * m,
            "lr_shared": setting.lr * m,
            "rho": setting.coefficient / m,
            "sigma": setting.coefficient / m,
            "batch_size": study.batch_size,
            **works,
        }

    return algorithm


def _preset(study: Study, setting: Setting) -> Options:
    """FedAPM for few participants, as docs/algorithms.md gives it."""
    options = _fedapm("joint", "participants")(study, setting)
    return options | {"sigma": 0.0, "dual_step": 0.1}


def _ditto(study: Study, setting: Setting) -> Options:
    half = _epochs(study.passes // 2)
    return {
        "name": "ditto",
        "lam": setting.coefficient,
        "lr_global": setting.lr,
        "lr_personal": setting.lr,
        "batch_size": study.batch_size,
        "global_work": half,
        "personal_work": half,
    }


PENALTIES = (0.1, 0.03, 0.3)
METHODS: dict[str, Method] = {
    "fedapm": Method(_fedapm("alternate"), PENALTIES),
    "fedapm-joint": Method(_fedapm("joint"), PENALTIES),
    "fedapm-participants": Method(_fedapm("joint", "participants"), PENALTIES),
    "fedapm-preset": Method(_preset, PENALTIES),
    "fedalt": Method(_fedalt),
    "fedsim": Method(_one_phase("fedsim")),
    "fedavg": Method(_one_phase("fedavg")),
    "fedprox": Method(_one_phase("fedprox", "mu"), (0.01, 0.001, 0.1)),
    "ditto": Method(_ditto, (0.1, 0.03, 1.0)),
    "scaffold": Method(_one_phase("scaffold")),
    "local": Method(_one_phase("local")),
}


def configuration(
    study: Study,
    method: Method,
    setting: Setting,
    *,
    data: str,
    seed: int,
    tuning: bool = False,
) -> Mapping[str, Any]:
    """Return the configuration of one run.

    Parameters
    ----------
    study, method, setting
        What is run.
    data
        Folder that holds the data sets.
    seed
        Of the run.
    tuning
        Whether this is a trial on the validation part.
    """
    config: Options = {
        "data": f"{data}/{study.data.format(seed=seed)}",
        "model": study.model,
        "algorithm": method.algorithm(study, setting),
        "participation": {"name": "random", "fraction": study.fraction},
        "rounds": study.tuning_rounds if tuning else study.rounds,
        "seed": seed,
        "evaluation": {"every": study.every, "split": "val" if tuning else "test"},
        "checkpoint": {"every": study.rounds, "keep": 1},
    }
    kind: Any = algorithms.get(config["algorithm"]["name"])
    if kind.sharing == "split":
        config["split"] = {"personal": list(study.personal)}
    return config
