"""Build the rules by which the clients of a run step."""

from collections.abc import Mapping
from typing import Any

from fedapm_mpi.algorithms import Algorithm
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.solver_options import BLOCKS, OWN_KEYS
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.federation.client_groups import ClientGroups
from fedapm_mpi.federation.plugin_checks import check_methods
from fedapm_mpi.optim.optimizers import LocalOptimizer, optimizers
from fedapm_mpi.optim.optimizers.sgd import SGD
from fedapm_mpi.optim.schedules import schedules
from fedapm_mpi.optim.solver import BlockRules, Pace, SolverRules
from fedapm_mpi.plugins.names import plugin_label


def build_solver(config: Config) -> SolverRules:
    """Return the rules of a configuration.

    Raises
    ------
    ConfigError
        If an optimizer or a schedule cannot be built.
    """
    rules = {block: BlockRules(_optimizer(config, block), _pace(config, block))
             for block in BLOCKS}  # fmt: skip
    return SolverRules(
        shared=rules["shared"],
        personal=rules["personal"],
        clip=config.clip,
        accumulate_batches=config.accumulate_batches,
        keep=config.optimizer is not None and config.optimizer["state"] == "keep",
    )


def check_solver(
    config: Config, rules: SolverRules, algorithm: Algorithm, groups: ClientGroups
) -> None:
    """Raise `ConfigError` if optimizer states are to be kept and cannot be."""
    try:
        for group in groups.members:
            rules.new_client_state(algorithm.optimizer_states(), group.initial)
    except Exception as error:
        assert config.optimizer is not None
        what = plugin_label("optimizer", config.optimizer["name"])
        msg = f"{what}: {error}"
        raise ConfigError(msg) from error


def solver_warnings(config: Config, rules: SolverRules) -> list[str]:
    """Return a sentence for the user if a run is longer than its schedule."""
    if config.schedule is None:
        return []
    end: int = config.schedule["rounds"]
    paces = {"shared": rules.shared.pace, "personal": rules.personal.pace}
    factors = {
        block: pace.factor(end)
        for block, pace in paces.items()
        if pace is not None and pace.ends
    }
    if config.rounds <= end or not factors:
        return []
    shown = ", ".join(f"{value:g} ({block})" for block, value in factors.items())
    return [
        f"the schedule ends after {end} of {config.rounds} rounds; in round {end + 1} "
        f"its factor of the step size is {shown}"
    ]


def _options(part: Mapping[str, Any], block: str, own: tuple[str, ...]) -> Any:
    """Return a block's plug-in with its options, without keys that are not its own."""
    found = part.get(block, part)
    return {key: found[key] for key in found if key not in (*own, *BLOCKS)}


def _optimizer(config: Config, block: str) -> LocalOptimizer:
    if config.optimizer is None:
        return SGD()
    part = _options(config.optimizer, block, OWN_KEYS["optimizer"])
    made: LocalOptimizer = build_plugin(optimizers, part)
    check_methods("optimizer", part, made, "init", "step")
    return made


def _pace(config: Config, block: str) -> Pace | None:
    if config.schedule is None:
        return None
    part = _options(config.schedule, block, OWN_KEYS["schedule"])
    made = build_plugin(schedules, part)
    check_methods("schedule", part, made, "factor")
    whole = config.schedule
    rounds = whole["rounds"]
    warmup = whole.get(block, whole)["warmup"]
    if warmup >= rounds:
        msg = (
            f"schedule: a warm-up of {warmup:g} rounds leaves nothing of {rounds}; "
            "shorten it"
        )
        raise ConfigError(msg)
    return Pace(made, rounds, warmup, whole["unit"])
