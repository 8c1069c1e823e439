"""Which clients are trained in stacks, and how many are in one."""

from functools import partial
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.algorithms import Algorithm
from fedapm_mpi.comm import Communicator
from fedapm_mpi.config.schema import Config
from fedapm_mpi.engine.feature_cache import apply_constant_stages, constant_stages
from fedapm_mpi.engine.stacked_model import (
    StackedModel,
    is_dense,
    place_matters,
    unstackable,
)
from fedapm_mpi.federation.client_groups import ClientGroup
from fedapm_mpi.federation.federation import Federation
from fedapm_mpi.federation.model_trial import made_up
from fedapm_mpi.federation.task_builder import loss_fault
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.tasks import Targets
from fedapm_mpi.training.stacks import GroupStack, Stacks
from fedapm_mpi.utils.kernels import NATIVE

LARGEST = 32
"""Most clients of a stack where the configuration leaves their number open."""

LONGEST = 100_000
"""Most parameters of a model that ``auto`` stacks: with more, arithmetic is most of a
step, and S copies of the model and of its optimizer's state take memory."""

PROBED = 16
"""Samples of a mini-batch on which stacks are tried, where its size is not known."""


def build_stacks(
    comm: Communicator,
    config: Config,
    algorithm: Algorithm,
    federation: Federation,
) -> tuple[Stacks, list[str]]:
    """Return a rank's stacks, and a sentence for each model that has none.

    A collective call: what cannot be stacked on one rank is not on any.

    Parameters
    ----------
    comm
        The ranks.
    config
        The experiment.
    algorithm
        Its algorithm.
    federation
        The clients, with their models on their device.
    """
    if config.stacked == "off":
        return Stacks(), []
    groups, samples = federation.groups, federation.manifest.counts["train"]
    size = stack_size(config, len(federation.participants(0)))
    found: dict[int, GroupStack] = {}
    notes = []
    for number, group in enumerate(groups.members):
        reason = (
            _config_reason(config)
            or loss_fault(group.model.task, federation.targets)
            or _reason(config, algorithm, group, size, federation.targets)
        )
        if comm.allreduce_max([bool(reason)])[0]:
            name = f" of group {group.name!r}" if len(groups.members) > 1 else ""
            why = reason or "it cannot on another rank"
            notes.append(
                f"clients{name} are trained one by one, not in stacks of {size}: {why}"
            )
            continue
        own = samples[groups.of_client == number]
        width = partial(largest_batch, group.model.batching, own)
        found[number] = GroupStack(StackedModel(group.model, size), width)
    return Stacks(found, size, samples), notes


def stack_size(config: Config, participants: int) -> int:
    """Return the clients of a stack, the same on any number of ranks.

    Where it is open, as many as make stacks of equal sizes of the participants.
    """
    if isinstance(config.stacked, int):
        return config.stacked
    stacks = max(1, ceil(participants / LARGEST))
    return max(2, ceil(participants / stacks))


def largest_batch(batching: Batching, samples: NDArray[np.int64], size: int) -> int:
    """Return the samples in the largest mini-batch of any client."""
    counts = np.unique(samples[samples > 0]).tolist()
    return max((max(batching.sizes(count, size)) for count in counts), default=1)


def _config_reason(config: Config) -> str:
    """Return why a configuration leaves no room for stacks; empty if it does."""
    # Stacks have not been compared on several processors, as portable kernels were.
    needed = {"device": "cpu", "precision": "full", "threads": 1, "kernels": NATIVE}
    for key, value in needed.items():
        if getattr(config, key) != value:
            return f"they need {key}: {value}"
    return ""


def _reason(
    config: Config,
    algorithm: Algorithm,
    group: ClientGroup,
    size: int,
    targets: Targets,
) -> str:
    """Return why a model is not stacked; empty if it is."""
    if any(spec.ragged for spec in group.inputs):
        return "samples differ in length"
    found = unstackable(group.model)
    if found:
        return found
    if config.stacked == "auto" and not is_dense(group.model.module):
        return f"the model has other layers than dense ones; stacked: {size} tries it"
    if config.stacked == "auto" and len(group.model.gradient) > LONGEST:
        return f"the model has more than {LONGEST} parameters"
    constant = constant_stages(group.model.module)
    try:
        for width in _widths(config, algorithm):
            samples = made_up(group.inputs, 2 * width, group.model.dtype, targets)
            halves = apply_constant_stages(constant, samples).chunks(width)
            reason = place_matters(group.model, size, halves)
            if reason:
                return reason
    except Exception as error:  # of torch, for what it cannot batch, or the user's
        line = next(iter(str(error).splitlines()), type(error).__name__)
        return f"the model cannot be stacked: {line}"
    return ""


def _widths(config: Config, algorithm: Algorithm) -> list[int]:
    """Return the sizes of mini-batches that stacks are tried with."""
    found = {algorithm.mini_batch_size() or PROBED}
    tuning = config.evaluation.fine_tune
    if tuning is not None and tuning.batch_size is not None:
        found.add(tuning.batch_size or PROBED)
    return sorted(found)
