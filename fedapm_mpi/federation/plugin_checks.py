"""Check what a user's plug-ins return before it is used."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedapm_mpi.algorithms.base import interface_faults
from fedapm_mpi.config.schema import PluginConfig
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.optim.local import Objective
from fedapm_mpi.optim.solver import SolverRules
from fedapm_mpi.plugins.errors import PluginError, blame
from fedapm_mpi.plugins.names import plugin_label, user_plugin_label
from fedapm_mpi.utils.text import one_line


def check_algorithm(part: PluginConfig, algorithm: Any) -> None:
    """Raise `ConfigError` unless a user's algorithm has what every algorithm has."""
    what = user_plugin_label("algorithm", part["name"])
    if what is None:
        return
    _refuse(what, interface_faults(algorithm))


def check_methods(kind: str, part: PluginConfig, made: Any, *names: str) -> None:
    """Raise `ConfigError` unless a user's plug-in has some methods or attributes."""
    what = user_plugin_label(kind, part["name"])
    if what is not None:
        _refuse(what, [f"has no {name}" for name in names if not hasattr(made, name)])


def check_state(part: PluginConfig, state: Any, shared: int, personal: int) -> None:
    """Raise `ConfigError` unless a user's algorithm returns a client state."""
    what = user_plugin_label("algorithm", part["name"])
    if what is None:
        return
    if not isinstance(state, dict):
        _refuse(what, [f"new_client gave {_describe(state)}, not a dict of tensors"])
    faults = [
        f"new_client gave {_describe(value)} as {name!r}, not a tensor"
        for name, value in state.items()
        if not isinstance(value, torch.Tensor)
    ]
    for name, length in (("shared", shared), ("personal", personal)):
        shape = tuple(getattr(state.get(name), "shape", ()))
        if not faults and shape != (length,):
            faults.append(
                f"new_client must give {name!r} of shape ({length},), not "
                f"{_describe(state.get(name))}"
            )
    _refuse(what, faults)


def check_participants(
    part: PluginConfig, scheme: Any, clients: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return a round's participants, checked where a user's plug-in chooses them.

    Raises
    ------
    PluginError
        If they are not distinct clients in ascending order.
    """
    what = user_plugin_label("participation", part["name"])
    found: NDArray[np.int64]
    with blame(what):
        found = scheme.choose(clients, rng)
    if what is None:
        return found
    values = _integers(found)
    if values is None or values.ndim != 1:
        msg = (
            f"{what}: choose gave {_describe(found)}; it must return an array of the "
            "ids of clients"
        )
        raise PluginError(msg)
    ascending = bool((np.diff(values) > 0).all())
    if len(values) and not (ascending and values[0] >= 0 and values[-1] < clients):
        msg = (
            f"{what}: choose must return distinct ids in ascending order from 0 to "
            f"{clients - 1}, not {_describe(found)}"
        )
        raise PluginError(msg)
    return values


def check_solver_used(
    part: PluginConfig, rules: SolverRules, problem: Objective, samples: int
) -> None:
    """Refuse an optimizer, a schedule or a clip that an algorithm has not used.

    Parameters
    ----------
    part
        The algorithm in the configuration.
    rules
        How clients are to step.
    problem
        The problem of a client that was just trained.
    samples
        Those that it was trained on.

    Raises
    ------
    PluginError
        If the algorithm took its steps otherwise than by `minimize`.
    """
    if samples and not problem.solver.steps and rules != SolverRules():
        msg = (
            f"{plugin_label('algorithm', part['name'])} takes its steps without "
            "minimize, so optimizer, schedule, clip and accumulate_batches have no "
            "effect: remove them"
        )
        raise PluginError(msg)


def check_update(part: PluginConfig, found: Any, rows: int, width: int) -> torch.Tensor:
    """Return what a client's step gave, checked in the user's own algorithm.

    Raises
    ------
    PluginError
        If it is not a tensor of the right shape.
    """
    what = user_plugin_label("algorithm", part["name"])
    if what is not None:
        shape = tuple(getattr(found, "shape", ()))
        if (
            not isinstance(found, torch.Tensor)
            or found.is_complex()
            or shape != (rows, width)
        ):
            msg = (
                f"{what}: client_step gave {_describe(found)}; it must return a real "
                f"tensor of shape ({rows}, {width})"
            )
            raise PluginError(msg)
        return found.detach().double()
    taken: torch.Tensor = found
    return taken


def check_total(part: PluginConfig, found: Any, length: int) -> NDArray[np.float64]:
    """Return the sum of updates, checked where a user's aggregator made it.

    Raises
    ------
    PluginError
        If it is not a finite array of the right shape.
    """
    what = user_plugin_label("aggregator", part["name"])
    if what is not None:
        good = isinstance(found, np.ndarray) and found.shape == (length,)
        if not good or found.dtype != np.float64 or not np.isfinite(found).all():
            msg = (
                f"{what}: sum gave {_describe(found)}; it must return, on rank 0, a "
                f"finite float64 array of shape ({length},)"
            )
            raise PluginError(msg)
    taken: NDArray[np.float64] = found
    return taken


def check_server(part: PluginConfig, rows: torch.Tensor, round_index: int) -> None:
    """Raise `PluginError` if a user's algorithm left values that are not finite."""
    what = user_plugin_label("algorithm", part["name"])
    if what is not None and not bool(torch.isfinite(rows).all()):
        msg = f"{what}: server_step of round {round_index} gave what is not finite"
        raise PluginError(msg)


def check_placement(
    what: str, found: Any, clients: int, hosts: int
) -> NDArray[np.int64]:
    """Return the host of each client, checked.

    Raises
    ------
    ConfigError
        If any is no host.
    """
    values = _integers(found)
    if (
        values is None
        or values.shape != (clients,)
        or not ((values >= 0) & (values < hosts)).all()
    ):
        msg = (
            f"{what} must give each of the {clients} clients a host in range({hosts}), "
            f"not {_describe(found)}"
        )
        raise ConfigError(msg)
    return values


def _integers(found: Any) -> NDArray[np.int64] | None:
    """Return whole numbers as an array, else `None`."""
    try:
        values = np.asarray(found)
    except Exception:  # ragged lists, and objects with conversions of their own
        return None
    if values.size == 0 and values.ndim == 1:
        return values.astype(np.int64)
    return values.astype(np.int64) if values.dtype.kind in "iu" else None


def _refuse(what: str, faults: list[str]) -> None:
    if faults:
        msg = f"{what} {'; it '.join(faults)}"
        raise ConfigError(msg)


def _describe(found: Any) -> str:
    """Return a description of a value."""
    if isinstance(found, torch.Tensor | np.ndarray):
        return f"{type(found).__name__} of shape {tuple(found.shape)}, {found.dtype}"
    try:
        return one_line(repr(found))
    except Exception:  # a user's own __repr__
        return f"an object of type {type(found).__name__}"
