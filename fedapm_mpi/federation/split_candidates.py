"""The splits that a model offers: sets of parameters that may be personal, by name.

A search for a split tests them in order of size; see ``docs/method.md``.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from torch import nn

from fedapm_mpi.engine.buffers import count_reals
from fedapm_mpi.engine.feature_cache import stages_of
from fedapm_mpi.engine.partitioned_model import trainable

MAX_CUTS = 6
"""Candidates of the first layers, and as many of the last ones, that a model has."""

MIN_CUTS = 4
"""Places to cut a deep model that are looked for at least."""

OUTPUT_NAMES = ("head", "classifier", "lm_head", "score")
"""Names of a child that gives the outputs, wherever it is registered."""

ENCODER = re.compile(r"(^|_)(encoders?|embed(dings?)?)(_|\d|$)")
"""Names of the children that read inputs, in a model that does not declare them."""

NORM_CLASSES = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
)
NORM_NAME = re.compile(r"Norm(\dd)?$")
"""Class names of other normalisation layers, such as RMSNorm."""


@dataclass(frozen=True)
class SplitCandidate:
    """A set of personal parameters; all others are shared."""

    name: str
    personal: tuple[str, ...]
    """Names of the personal parameters, in the model's order."""

    size: int
    """Numbers in them, in the model that has most."""


def split_candidates(
    modules: Sequence[nn.Module], *, partially_shared: Sequence[str] = ()
) -> list[SplitCandidate]:
    """Return the splits that the models of a run offer, the smallest first.

    Each is known by one of these names; of equal sets only the first is kept:

    ``nothing``, ``all``
        The two ends.
    ``output_bias``, ``head``
        The bias of the layer that gives the outputs; all of that layer.
    ``biases``, ``norms``
        Of all layers; the parameters of normalisation layers.
    ``norms+biases``, ``head+biases``
        Both.
    ``encoders``
        The parts that read the inputs, as the model's ``input_encoders()`` names them,
        or else its children whose names say so.
    ``adapters``
        Low-rank adapters.
    ``first_K``, ``last_K``
        The K layers at an end, as of `PartitionedModel.from_position`. Deep models are
        cut between their blocks only, at `MAX_CUTS` places, evenly spaced.

    Parameters
    ----------
    modules
        One model of each group of clients, with gradients for both blocks; frozen
        parameters do not count. A set holds what any of the models has of it; the
        layers at an end are those of the largest model. What models do not have in
        common, or in one shape, is in all sets; then the first is called
        ``differing`` instead of ``nothing``.
    partially_shared
        Glob patterns of parameters that may be shared though some models lack them.
    """
    known: dict[str, None] = {}
    for module in modules:
        known |= dict.fromkeys(_sizes(module))
    forced = _differing(modules, partially_shared)
    named = [("differing" if forced else "nothing", set()), ("all", set(known))]
    named += _by_kind(modules)
    named += _ends(max(modules, key=lambda module: sum(_sizes(module).values())))
    candidates: dict[frozenset[str], SplitCandidate] = {}
    for name, personal in named:
        whole = frozenset(personal | forced)
        ordered = tuple(one for one in known if one in whole)
        size = max(
            sum(count for one, count in _sizes(module).items() if one in whole)
            for module in modules
        )
        candidates.setdefault(whole, SplitCandidate(name, ordered, size))
    # A stable sort: of equally large sets the one named first. All of it stays last.
    return sorted(
        candidates.values(),
        key=lambda one: (len(one.personal) == len(known), one.size),
    )


def _sizes(module: nn.Module) -> dict[str, int]:
    """Return the trained parameters' sizes by name."""
    return {name: count_reals(p) for name, p in trainable(module)}


def _differing(
    modules: Sequence[nn.Module], partially_shared: Sequence[str]
) -> set[str]:
    """Return the parameters that cannot be shared between these models."""
    shapes = [{n: tuple(p.shape) for n, p in trainable(module)} for module in modules]
    found = set()
    for name in {name for own in shapes for name in own}:
        there = [own[name] for own in shapes if name in own]
        optional = any(fnmatchcase(name, pattern) for pattern in partially_shared)
        if len(set(there)) > 1 or (len(there) < len(shapes) and not optional):
            found.add(name)
    return found


def _by_kind(modules: Sequence[nn.Module]) -> list[tuple[str, set[str]]]:
    """Return the parameters of each kind, of any of the models."""
    found = {
        name: {one for module in modules for one in select(module)}
        for name, select in _KINDS.items()
    }
    # A sum of which one part is empty is the other.
    sums = ("norms+biases", "head+biases")
    return [
        (name, set().union(*(found[part] for part in name.split("+"))))
        for name in (*found, *sums)
    ]


def _owned(module: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Return (owner, its own name of a parameter, its name in the model), all trained.

    In the order of the modules; a tied parameter has one row for each owner, with the
    first name.
    """
    first = {id(p): name for name, p in trainable(module)}
    return [
        (owner, own, first[id(p)])
        for owner in module.modules()
        for own, p in owner.named_parameters(recurse=False, remove_duplicate=False)
        if id(p) in first
    ]


def _biases(module: nn.Module) -> set[str]:
    # Such as bias, bias_ih_l0 of recurrent layers and in_proj_bias of attention.
    return {name for _, own, name in _owned(module) if "bias" in own.split("_")}


def _norms(module: nn.Module) -> set[str]:
    return {
        name
        for owner, _, name in _owned(module)
        if isinstance(owner, NORM_CLASSES) or NORM_NAME.search(type(owner).__name__)
    }


def _head(module: nn.Module) -> set[str]:
    return {name for _, _, name in _output_layer(module)}


def _output_bias(module: nn.Module) -> set[str]:
    return {name for _, own, name in _output_layer(module) if own == "bias"}


def _output_layer(module: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Return the rows of `_owned` of the layer that gives the outputs.

    It is the last one that is trained: of the last stage, where the model declares its
    stages; else of the one child with a name that says so; else of the model.
    """
    owned = _owned(module)
    last = [s for s in stages_of(module) if any(map(_has_trained, s.modules))][-1:]
    named = [
        child
        for name, child in module.named_children()
        if name in OUTPUT_NAMES and _has_trained(child)
    ]
    parts: Iterable[nn.Module] = [module]
    if last:
        parts = last[0].modules
    elif len(named) == 1:
        parts = named
    within = {id(one) for part in parts for one in part.modules()}
    rows = [row for row in owned if id(row[0]) in within]
    return [row for row in rows if row[0] is rows[-1][0]]


def _has_trained(module: nn.Module) -> bool:
    return any(True for _ in trainable(module))


def _encoders(module: nn.Module) -> set[str]:
    declared = getattr(module, "input_encoders", None)
    parts: Collection[str]
    if callable(declared) and not isinstance(declared, nn.Module):
        parts = declared()
    else:
        parts = [name for name, _ in module.named_children() if ENCODER.search(name)]
    return {
        name
        for name, _ in trainable(module)
        if any(name == part or name.startswith(f"{part}.") for part in parts)
    }


def _adapters(module: nn.Module) -> set[str]:
    return {
        name
        for name, _ in trainable(module)
        if any(part.lower().startswith("lora_") for part in name.split("."))
    }


_KINDS: dict[str, Callable[[nn.Module], set[str]]] = {
    "output_bias": _output_bias,
    "biases": _biases,
    "norms": _norms,
    "head": _head,
    "encoders": _encoders,
    "adapters": _adapters,
}
"""What chooses the parameters of a kind, by the candidate's name."""


def _ends(module: nn.Module) -> list[tuple[str, set[str]]]:
    """Return the first and the last layers, cut at some places."""
    layers: dict[str, list[str]] = {}
    for name, _ in trainable(module):
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    ordered, total = list(layers.values()), len(layers)
    cuts = _cuts(list(layers))
    ends = [(f"first_{k}", ordered[:k]) for k in cuts]
    ends += [(f"last_{total - k}", ordered[k:]) for k in reversed(cuts)]
    return [(name, {one for layer in some for one in layer}) for name, some in ends]


def _cuts(layers: Sequence[str]) -> list[int]:
    """Return the places to cut a model, as the number of layers before each.

    A model with few layers is cut between any two. Of another the places are between
    its children; while these are few, or one has most of the layers, the largest is
    cut between its own children. Some of the places are taken, evenly spaced.
    """
    total = len(layers)
    if total - 1 <= MAX_CUTS:
        return list(range(1, total))
    parts = [layer.split(".") if layer else [] for layer in layers]
    places = _borders(parts, 0, total)
    while True:
        blocks = list(pairwise([0, *places, total]))
        start, stop = max(blocks, key=lambda block: block[1] - block[0])
        if len(places) >= MIN_CUTS and stop - start <= total / 2:
            break
        places = sorted([*places, *_borders(parts, start, stop)])
    if len(places) > MAX_CUTS:
        last = len(places) - 1
        chosen = [round(i * last / (MAX_CUTS - 1)) for i in range(MAX_CUTS)]
        places = [places[i] for i in chosen]
    return places


def _borders(parts: Sequence[Sequence[str]], start: int, stop: int) -> list[int]:
    """Return the places where the names of a block's layers differ first.

    The block is at least two layers, whose names differ.
    """
    found: list[int] = []
    depth = 0
    while not found:
        depth += 1
        found = [
            k
            for k in range(start + 1, stop)
            if parts[k - 1][:depth] != parts[k][:depth]
        ]
    return found
