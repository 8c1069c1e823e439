"""The default space of a method, from the names and types of its options.

What is known of an option by its name: step sizes and penalties have a range that is
right for losses of order one; every range also contains the configured value. By its
type alone: a `Literal` has all of its values, a local budget some numbers of epochs, a
positive number a range around what is configured. Options of neither kind stay as they
are configured, as do those that change what a method is or what its numbers mean.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt

from fedapm_mpi.algorithms import Algorithm
from fedapm_mpi.algorithms.base import algorithms
from fedapm_mpi.optim.budget import LocalBudget
from fedapm_mpi.studies.tune.space import Choice, Dimension, Range, choices_of, label_of

STEP_SIZES: dict[str, tuple[float, float]] = {
    "sgd": (0.02, 1.0),
    "momentum": (0.002, 0.1),
    "adaptive": (0.001, 0.05),
}
"""By kind of optimizer: step sizes on a client's own loss."""

MAIN_STEP = ("lr", "lr_shared", "lr_body", "lr_global", "lr_personal")
"""Names of the step size that others are given as multiples of, the first that is."""

OTHER_STEP = (0.3, 3.0)
"""Further step sizes, as multiples of the main one."""

FINE_TUNING_STEP = (0.1, 3.0)
"""Step size of fine-tuning, as a multiple of the main one."""

INVERSE_STEPS = ("zeta", "curvature")
"""Options that are, apart from the penalty, the inverse of a step size."""

RANGES: dict[str, tuple[float, float]] = {
    "rho": (0.01, 3.0),
    "penalty": (0.01, 1.0),
    "lam": (0.01, 10.0),
    "mu": (0.001, 3.0),
    "dual_step": (0.01, 1.0),
}
"""By name of an option: its range."""

PENALTIES = ("rho",)
"""Options that are in the units of the loss that local problems have."""

VALUES: dict[str, tuple[float, ...]] = {
    "weight_decay": (0.0, 1e-4, 1e-3, 1e-2),
}
"""By name of an option: its values, where zero is one of them."""

DUAL_SHARES = (None, 1.0, 0.5)
"""Shares of the mean dual, of which one is ahead where labels are many and rounds few,
another where it is the other way round."""

EPOCHS = (1, 2, 4)
"""Epochs of a round's only phase."""

EPOCHS_OF_PHASES = (1, 2)
"""Epochs of each of a round's phases, if there are several."""

AS_CONFIGURED = (
    "batch_size", "units", "alpha_in_v_step", "v_step_at", "u_init", "lr_server",
    "beta", "relaxation", "control_variate", "server_optimizer", "inner_steps",
    "lipschitz", "residual_balancing", "rho_schedule", "sigma",
)  # fmt: skip
"""Options of the package's methods that stay as they are configured.

FedAPM's `sigma` is one since no study found a value that is better than none, and a
dimension more costs a search of few trials.
"""

JOINT = {
    "algorithm.personal_work": None,
    "algorithm.shared_work": None,
    "algorithm.v_step_at": "global",
    "algorithm.joint_work": {"epochs": EPOCHS[0]},
}
"""What goes with ``block_order: joint``; the dimension of its work comes after it."""

ALTERNATE = {"algorithm.joint_work": None}

OPTIMIZERS: tuple[Any, ...] = (
    None,
    {"name": "sgd", "momentum": 0.9},
    {"name": "adam", "betas": [0.9, 0.99]},
)

SCHEDULES: tuple[Any, ...] = (None, {"name": "cosine", "final": 0.05})


def optimizer_kind(value: Any) -> str:
    """Return the kind of an optimizer in `STEP_SIZES`."""
    if isinstance(value, str):
        value = {"name": value}
    name = "sgd" if value is None else value.get("name")
    if name != "sgd":
        return "adaptive"
    return "momentum" if value is not None and value.get("momentum") else "sgd"


def solver_dimensions(base: Mapping[str, Any]) -> list[Dimension]:
    """Return the dimensions of optimizer and schedule, each with what is configured."""
    found = []
    for key, defaults in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        configured = base.get(key)
        plain = [
            one
            for one in defaults
            if configured is None or one is None or one["name"] != configured["name"]
        ]
        values = [configured, *plain] if configured is not None else plain
        choices = tuple(
            Choice("sgd" if one is None and key == "optimizer" else label, one)
            for one, label in ((one, _short(one)) for one in values)
        )
        found.append(Dimension(key, key, _distinct(choices)))
    return found


def _short(value: Any) -> str:
    """Return the name of a plug-in, and its momentum if it has one."""
    if not isinstance(value, Mapping):
        return label_of(value)
    momentum = value.get("momentum")
    return f"{value['name']}{' momentum' if momentum else ''}"


def _distinct(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    found: dict[str, Choice] = {}
    for one in choices:
        found.setdefault(one.label, one)
    return tuple(found.values())


def option_hints(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a method's options, in their order; none if unknown."""
    try:
        hints = get_type_hints(factory, include_extras=True)
        names = list(inspect.signature(factory).parameters)
    except Exception:  # a user's, that cannot be read
        return {}
    return {name: hints[name] for name in names if name in hints}


def main_step(base: Mapping[str, Any]) -> str | None:
    """Return the key of the step size that others are multiples of."""
    options = base["algorithm"]
    name = next((one for one in MAIN_STEP if options.get(one) is not None), None)
    return None if name is None else f"algorithm.{name}"


def method_dimensions(
    base: Mapping[str, Any], optimizer: Dimension, *, everyone: bool, unit: float
) -> list[Dimension]:
    """Return the dimensions of a method's own options.

    Parameters
    ----------
    base
        The plain configuration of the study.
    optimizer
        The optimizers of the space: step sizes depend on them.
    everyone
        Whether all clients take part in every round: then it makes no difference which
        of them the server averages.
    unit
        A client's weight, if local problems are weighted, else 1: penalties are divided
        and plain step sizes multiplied by it.
    """
    options = base["algorithm"]
    hints = option_hints(algorithms.get(options["name"]))
    budgets = [name for name in hints if _is_budget(hints[name])]
    phases = len([name for name in budgets if "fine_tune" not in name])
    order = _order_dimension(base) if "block_order" in hints else None
    found = [] if order is None else [order]
    main = main_step(base)
    if main is not None:
        found += _main_dimensions(base, main, optimizer, unit)
    for name, hint in hints.items():
        key = f"algorithm.{name}"
        if name in AS_CONFIGURED or name == "block_order" or key == main:
            continue
        if name == "server_average" and (everyone or _has_share(options)):
            continue  # no difference, or the share is of what it is
        if _is_budget(hint):
            found += _budget_dimensions(base, name, phases, order)
        elif name.startswith("lr") and main is not None:
            low, high = FINE_TUNING_STEP if "fine_tune" in name else OTHER_STEP
            found.append(Dimension(key, key, Range(low, high, times=main)))
        elif name == "dual_share":
            found += _share_dimensions(options)
        elif name in INVERSE_STEPS:
            found += _inverse_dimensions(base, key, optimizer, unit)
        else:
            found += _plain_dimensions(name, hint, options.get(name), unit)
    return found


def _has_share(options: Mapping[str, Any]) -> bool:
    """Return whether the server's mean has a share of the duals of its own."""
    return "dual_share" in options and options["server_average"] == "participants"


def _share_dimensions(options: Mapping[str, Any]) -> list[Dimension]:
    """Return the share of the duals, with what is configured."""
    if not _has_share(options):
        return []
    key = "algorithm.dual_share"
    values = dict.fromkeys((*DUAL_SHARES, options["dual_share"]))
    return [Dimension(key, key, choices_of(list(values)))]


def _main_dimensions(
    base: Mapping[str, Any], key: str, optimizer: Dimension, unit: float
) -> list[Dimension]:
    """Return the main step size, a range for each kind of optimizer."""
    return [
        Dimension(
            f"{key}[{kind}]",
            key,
            _around(*_steps(kind, unit), _configured(base, key, kind)),
            {optimizer.name: labels},
        )
        for kind, labels in _by_kind(optimizer).items()
    ]


def _inverse_dimensions(
    base: Mapping[str, Any], key: str, optimizer: Dimension, unit: float
) -> list[Dimension]:
    """Return an inverse step size, a range for each kind of optimizer."""
    found = []
    for kind, labels in _by_kind(optimizer).items():
        low, high = _steps(kind, unit)
        range_ = _around(1 / high, 1 / low, _configured(base, key, kind))
        found.append(Dimension(f"{key}[{kind}]", key, range_, {optimizer.name: labels}))
    return found


def _steps(kind: str, unit: float) -> tuple[float, float]:
    low, high = STEP_SIZES[kind]
    # An adaptive step does not depend on the size of the gradient.
    return (low, high) if kind == "adaptive" else (low / unit, high / unit)


def _configured(base: Mapping[str, Any], key: str, kind: str) -> Any:
    """Return the configured value of a key, if it is for such an optimizer."""
    name = key.partition(".")[2]
    same = optimizer_kind(base.get("optimizer")) == kind
    return base["algorithm"].get(name) if same else None


def _by_kind(optimizer: Dimension) -> dict[str, tuple[str, ...]]:
    """Return the labels of the optimizers by their kind."""
    found: dict[str, tuple[str, ...]] = {}
    assert not isinstance(optimizer.values, Range)
    for one in optimizer.values:
        kind = optimizer_kind(one.value)
        found[kind] = (*found.get(kind, ()), one.label)
    return found


def _around(low: float, high: float, value: Any) -> Range:
    """Return a range that contains a value, if that is a positive number."""
    if isinstance(value, int | float) and 0 < value < math.inf:
        low, high = min(low, float(value)), max(high, float(value))
    return Range(float(f"{low:.6g}"), float(f"{high:.6g}"))


def _plain_dimensions(name: str, hint: Any, value: Any, unit: float) -> list[Dimension]:
    """Return the dimension of an option that depends on no other, if it has one."""
    key = f"algorithm.{name}"
    scale = unit if name in PENALTIES else 1.0
    if name in VALUES:
        scaled = [one * scale for one in VALUES[name]]
        given = [float(value)] if isinstance(value, int | float) else []
        return [Dimension(key, key, choices_of(sorted({*scaled, *given})))]
    if name in RANGES:
        low, high = RANGES[name]
        return [Dimension(key, key, _around(low * scale, high * scale, value))]
    literal = _literals(hint)
    if literal:
        return [Dimension(key, key, choices_of(literal))]
    if not isinstance(value, int | float) or isinstance(value, bool):
        return []
    if _has_bound(hint, Gt) and value > 0:
        return [Dimension(key, key, _around(value / 10, value * 10, None))]
    if _has_bound(hint, Ge):
        return [
            Dimension(key, key, choices_of(sorted({0.0, value / 10, float(value)})))
        ]
    return []


def _order_dimension(base: Mapping[str, Any]) -> Dimension:
    """Return the order of blocks: jointly, and as it is configured."""
    key = "algorithm.block_order"
    joint = Choice("joint", "joint", JOINT)
    if base["algorithm"][key.partition(".")[2]] == "joint":
        return Dimension(key, key, (joint,))
    return Dimension(key, key, (joint, Choice("alternate", "alternate", ALTERNATE)))


def _budget_dimensions(
    base: Mapping[str, Any], name: str, phases: int, order: Dimension | None
) -> list[Dimension]:
    """Return a local budget in epochs, and as it is configured."""
    key, value = f"algorithm.{name}", base["algorithm"].get(name)
    when: dict[str, tuple[str, ...]] = {}
    several = phases > 1
    if order is not None:
        joint = name == "joint_work"
        label = "joint" if joint else "alternate"
        if label not in order.labels:
            return []
        several = not joint
        when = {order.name: (label,)}
    elif value is None:
        return []
    epochs = EPOCHS_OF_PHASES if several else EPOCHS
    choices = {e: Choice(str(e), {"epochs": e}) for e in epochs}
    given = {k: v for k, v in (value or {}).items() if v is not None}
    if given and given.get("epochs") not in choices:
        first = next(iter(given))
        label = str(given["epochs"]) if first == "epochs" else f"{first} {given[first]}"
        choices[0] = Choice(label, given)
    return [Dimension(key, key, tuple(choices.values()), when)]


def fine_tuning_dimensions(base: Mapping[str, Any]) -> list[Dimension]:
    """Return training before the evaluation: none, or of all parameters.

    Methods that have a model of each client's own beyond the two blocks, and those that
    share nothing, keep what is configured.
    """
    factory = algorithms.get(base["algorithm"]["name"])
    configured, main = base["evaluation"].get("fine_tune"), main_step(base)
    own = getattr(factory, "load_personal_model", None)
    adapts = own is not None and own is not Algorithm.load_personal_model
    alone = getattr(factory, "sharing", "split") == "none"
    if main is None or adapts or alone:
        return []
    key = "evaluation.fine_tune"
    tuned = configured or {"block": "all", "lr": 1.0, "work": {"epochs": 1}}
    when = {key: ("on",)}
    low, high = FINE_TUNING_STEP
    work = choices_of([{"epochs": e} for e in (1, 3)])
    if configured is not None:
        work = choices_of([{"epochs": 1}, {"epochs": 3}, _given(configured["work"])])
    return [
        Dimension(key, key, (Choice("none", None), Choice("on", tuned))),
        Dimension(f"{key}.lr", f"{key}.lr", Range(low, high, times=main), when),
        Dimension(f"{key}.work", f"{key}.work", work, when),
    ]


def _given(work: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in work.items() if value is not None}


def _is_budget(hint: Any) -> bool:
    return LocalBudget in _parts(hint)[0]


def _literals(hint: Any) -> tuple[Any, ...]:
    """Return the values of a type that is a `Literal`."""
    found = [get_args(one) for one in _parts(hint)[0] if get_origin(one) is Literal]
    return found[0] if found else ()


def _has_bound(hint: Any, kind: type) -> bool:
    return any(isinstance(one, kind) for one in _parts(hint)[1])


def _parts(hint: Any) -> tuple[list[Any], list[Any]]:
    """Return the types that a type hint allows, and what it is annotated with."""
    if get_origin(hint) is Annotated:
        inside, *notes = get_args(hint)
        types, more = _parts(inside)
        return types, [*more, *notes]
    if get_origin(hint) in (Union, UnionType):
        pairs = [_parts(one) for one in get_args(hint)]
        return [t for pair in pairs for t in pair[0]], [n for p in pairs for n in p[1]]
    return [hint], []
