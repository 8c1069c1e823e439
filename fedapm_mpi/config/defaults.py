"""Defaults that depend on what a configuration leaves out: its solver, and its split.

A configuration that gives no step size leaves the solver to the package: its optimizer
and its schedule as well, as far as they are left out, and step sizes that suit the
optimizer. One that gives a step size means plain SGD of constant size unless it says
otherwise. All of it is written into the resolved configuration, so that a run keeps its
numbers whatever later defaults are.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fedapm_mpi.algorithms.base import algorithms, declared_sharing
from fedapm_mpi.config.schema import DEFAULT_ROUNDS
from fedapm_mpi.config.solver_options import BLOCKS, OWN_KEYS
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.optim.budget import LocalBudget
from fedapm_mpi.optim.default_solver import (
    DERIVED,
    DUAL_SHARE,
    INPUT_ENCODERS,
    LAST_LAYER,
    PENALTY,
    PERSONAL,
    StepSizeOption,
    default_optimizer,
    default_schedule,
)
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.plugins.loader import may_import
from fedapm_mpi.plugins.names import absolute_name, display_name, is_user_plugin
from fedapm_mpi.utils.text import format_value


def with_defaults(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a configuration with a solver and a split, and a sentence per error.

    What cannot be completed, since another part is wrong, is left as it is: its own
    check reports the error.

    Parameters
    ----------
    values
        A configuration under the names of this version, plug-ins as mappings.
    """
    found = dict(values)
    part = values.get("algorithm")
    factory = _factory(part)
    if factory is None or not isinstance(part, Mapping):
        return found, []
    if declared_sharing(factory) == "split" and values.get("split") is None:
        found["split"] = default_split(part["name"], values.get("model"))
    options = step_size_options(factory)
    given = [name for name in options if part.get(name) is not None]
    left_out = [name for name in options if name not in given]
    if part.get("units") == "weighted":
        return found, _without_defaults(part, factory, left_out)
    if not left_out:
        return found, []
    if given:
        same = dict.fromkeys(left_out, part[given[0]])
        return {**found, "algorithm": {**part, **same}}, []
    own = [one.plain for one in options.values() if one.plain is not None]
    by_sgd = values.get("optimizer") in (None, {"name": "sgd"})
    plain = own[0] if own and by_sgd else None
    if "optimizer" not in values:
        found["optimizer"] = default_optimizer(plain=plain is not None)
    rounds = values.get("rounds", DEFAULT_ROUNDS)
    if "schedule" not in values and type(rounds) is int:
        found["schedule"] = default_schedule(rounds)
    lr, error = _step_size(found["optimizer"], left_out)
    lr = lr if plain is None else plain
    if lr is None:
        return found, [] if error is None else [error]
    rho = part.get("rho", getattr(factory, "rho", None))
    rho = rho if isinstance(rho, int | float) else 0.0
    sizes = {name: option.value(lr, rho) for name, option in options.items()}
    more = _next_to_solver(part, values.get("participation"))
    return {**found, "algorithm": {**more, **part, **sizes}}, []


def default_split(algorithm: str, model: Any) -> dict[str, Any]:
    """Return the split of a configuration that gives none.

    Parameters
    ----------
    algorithm
        Name of the algorithm.
    model
        The model's part of the configuration, as it is written.
    """
    if algorithm in LAST_LAYER:
        return {"last": 1}
    name = model.get("name") if isinstance(model, Mapping) else None
    return {"personal": list(INPUT_ENCODERS.get(str(name), PERSONAL))}


def step_size_options(factory: Callable[..., Any]) -> dict[str, StepSizeOption]:
    """Return an algorithm's options that make the size of its local steps, by name.

    They are those of the types `StepSize` and `Proximity`; a user's class that declares
    an option of one of these names again has it as it says.
    """
    return {
        name: mark
        for name, marks in _marks(factory).items()
        for mark in marks
        if isinstance(mark, StepSizeOption)
    }


def with_derived(
    factory: Callable[..., Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return checked options with those whose default follows from other options."""
    derived = [
        name
        for name, marks in _marks(factory).items()
        if DERIVED in marks and options.get(name) is None
    ]
    if not derived:
        return dict(options)
    made = factory(**options)
    values = {name: getattr(made, name) for name in derived}
    plain = {
        name: asdict(value) if isinstance(value, LocalBudget) else value
        for name, value in values.items()
    }
    return {**options, **plain}


def _marks(factory: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """Return what the types of a factory's options are annotated with, by name."""
    try:
        hints = get_type_hints(factory, include_extras=True)
    except Exception:  # a user's, that cannot be resolved here
        return {}
    return {
        name: get_args(hint)[1:]
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
    }


def _factory(part: Any) -> Callable[..., Any] | None:
    """Return the factory of an algorithm; `None` if it cannot be had."""
    name = part.get("name") if isinstance(part, Mapping) else None
    if not isinstance(name, str):
        return None
    try:
        name = algorithms.resolve(name)
        if is_user_plugin(name) and not may_import():
            return None
        return algorithms.get(absolute_name(name) if is_user_plugin(name) else name)
    except ConfigError:
        return None


def _next_to_solver(part: Mapping[str, Any], participation: Any) -> dict[str, Any]:
    """Return what a method has instead of its own default where it has no step size.

    The option's own default is what configurations with step sizes, which may be older
    than this choice, mean. FedAPM averages over participants, unless an option needs
    the mean over all; with everybody both are the same. Where not all take part its
    duals have a smaller share of the server's mean. ICEADMM starts at the broadcast
    model, as its authors' code does: at its own copy it diverges with penalties for
    which that still learns.
    """
    if part.get("name") == "iceadmm":
        return {"init": "global"}
    if part.get("name") != "fedapm" or part.get("relaxation", 1) != 1:
        return {}
    changing = (part.get("residual_balancing"), part.get("rho_schedule"))
    if any(rule is not None for rule in changing):
        return {}
    if part.get("server_average", "participants") != "participants":
        return {}
    found: dict[str, Any] = {"server_average": "participants"}
    if participation not in (None, {"name": "full"}):
        found["dual_share"] = DUAL_SHARE
    return found


def _without_defaults(
    part: Mapping[str, Any], factory: Callable[..., Any], left_out: list[str]
) -> list[str]:
    """Return a sentence for each option that has no default in the papers' units."""
    missing = [
        name
        for name, marks in _marks(factory).items()
        if PENALTY in marks and part.get(name) is None
    ]
    what = f"algorithm {format_value(display_name(part['name']))}"
    return [
        f"{what}: {name}: missing; with units 'weighted' what suits depends on the "
        "number of clients, so nothing is chosen for you: give it, or leave units out"
        for name in (*missing, *left_out)
    ]


def _step_size(
    part: Mapping[str, Any] | None, options: list[str]
) -> tuple[float | None, str | None]:
    """Return the step size that suits an optimizer; else `None` and an error, if any.

    Parameters
    ----------
    part
        The optimizer as it is written; `None` is plain SGD.
    options
        Names of the step sizes that are needed, for the message.
    """
    part = {"name": "sgd"} if part is None else part
    if not isinstance(part, Mapping) or not isinstance(part.get("name"), str):
        return None, None
    wanted = " and ".join(f"algorithm.{name}" for name in options)
    for block in BLOCKS:
        other = part.get(block)
        name = other.get("name") if isinstance(other, Mapping) else other
        if name is not None and name != part["name"]:
            return None, (
                f"optimizer.{block}: is another one than optimizer, so no step size "
                f"suits both; give {wanted}"
            )
    own = (*OWN_KEYS["optimizer"], *BLOCKS)
    try:
        name = optimizers.resolve(part["name"])
        if is_user_plugin(name) and not may_import():
            return None, None
        options_of_it = {k: v for k, v in part.items() if k not in ("name", *own)}
        made = optimizers.get(name)(**options_of_it)
    except Exception:  # reported with the optimizer
        return None, None
    lr = getattr(made, "default_lr", None)
    if isinstance(lr, int | float) and not isinstance(lr, bool) and lr > 0:
        return float(lr), None
    return None, (
        f"{wanted}: missing; no step size is known for the optimizer "
        f"{format_value(display_name(part['name']))} (its attribute default_lr)"
    )
