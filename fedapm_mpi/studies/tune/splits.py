"""The splits that a search chooses from: those that the model offers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedapm_mpi.algorithms import Algorithm
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.split_options import Split
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.engine.partitioned_model import trainable
from fedapm_mpi.federation.client_groups import ClientGroups, build_groups
from fedapm_mpi.federation.split_candidates import split_candidates
from fedapm_mpi.studies.tune.space import Choice, Dimension, Params, Space

KEY = "split"


def split_dimension(
    config: Config, manifest: Manifest, algorithm: Algorithm
) -> Dimension:
    """Return the splits that a method which has both blocks may have.

    The configured one comes first; `auto` is left out, since its tests train as well. A
    method that does not take an empty block is not offered the two ends.

    Parameters
    ----------
    config
        The configuration of the study.
    manifest
        Data of its clients.
    algorithm
        Its method.
    """
    takes_empty = bool(algorithm.trained_blocks())
    chosen_by_rule = config.split is not None and config.split.auto is not None
    if chosen_by_rule:  # any other will do, to look at the models
        config = replace(config, split=Split(last=1))
    groups = build_groups(config, manifest, algorithm.sharing, takes_empty=takes_empty)
    modules = []
    for group in groups.members:
        group.model.set_trainable("both")
        modules.append(group.model.module)
    names = {name for module in modules for name, _ in trainable(module)}
    choices = []
    for one in split_candidates(
        modules, partially_shared=config.partially_shared or ()
    ):
        every = set(one.personal) == names
        if (every or not one.personal) and not takes_empty:
            continue
        value = {"shared": []} if every else {"personal": list(one.personal)}
        choices.append(Choice(one.name, value, size=one.size))
    if not chosen_by_rule:
        choices = _configured(config, groups, choices)
    return Dimension(KEY, KEY, tuple(choices))


def _configured(
    config: Config, groups: ClientGroups, choices: Sequence[Choice]
) -> list[Choice]:
    """Return the choices, the configured split first; it may be none of them."""
    members = groups.members
    own = {name for group in members for name in group.model.personal_names}
    shared = {name for group in members for name in group.model.shared_names}
    for one in choices:
        every = "shared" in one.value
        if not shared if every else own == set(one.value["personal"]):
            return [one, *(other for other in choices if other is not one)]
    size = max(len(group.initial["personal"]) for group in members)
    split: Any = config.plain()["split"]
    value = {key: given for key, given in split.items() if given is not None}
    return [Choice("configured", value, size=size), *choices]


def with_each_split(space: Space, first: Params, count: int) -> list[Params]:
    """Return parameters, and the same with each of the other splits.

    A bad split costs more than any other bad choice, and is seen soonest where all else
    is as configured. Of more splits than there is room for, those between which the
    others lie evenly are taken, by size.

    Parameters
    ----------
    space
        The space. The parameters alone are returned if it has no choice of splits.
    first
        Parameters of all dimensions.
    count
        The most to return, at least 1.
    """
    labels = [label for one in space.free if one.name == KEY for label in one.labels]
    others = [label for label in labels if label != first[KEY]]
    room = min(count - 1, len(others))
    if room < len(others):
        last = max(1, room - 1)
        others = [others[k * (len(others) - 1) // last] for k in range(room)]
    return [first, *({**first, KEY: label} for label in others)]


def trained_blocks_of(split: Any, sharing: str) -> tuple[str, ...]:
    """Return the blocks that models have, as far as a configuration alone says so.

    Parameters
    ----------
    split
        The split of a configuration, as plain values.
    sharing
        The method's, see `Algorithm.sharing`.
    """
    if sharing != "split":
        return ("personal",) if sharing == "none" else ("shared",)
    given = {key: value for key, value in (split or {}).items() if value is not None}
    if given == {"shared": []}:
        return ("personal",)
    return ("shared",) if given == {"personal": []} else ("personal", "shared")
