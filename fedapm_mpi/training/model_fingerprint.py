"""The model as it was built: the same on all ranks, and when a run is resumed.

Every rank builds the model for itself. What its factory draws from torch, NumPy's or
Python's global generator is seeded; what it takes from elsewhere (the time, the
operating system, an unseeded generator) may differ, and is found here. Parameters,
buffers, and arrays among the attributes must not differ. Other attributes, such as the
time at which a model was built, may, if its scores of made-up samples are the same.
"""

import json
import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.engine.model_tensors import tensors_of
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.federation.client_groups import ClientGroups
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.text import format_ids

FILE = "built_model.json"
"""File in a run directory that says with what model the run began."""

Contents = dict[str, str]
"""Of each thing in a model, by kind and name, what it is with a hash of its values."""

REMEDY = (
    "its factory must draw from torch, NumPy's or Python's global generator, which are "
    "seeded, or from a generator with a seed of its own; not from the time, the "
    "operating system, the order of a set, or variables that differ between ranks"
)

HARMLESS = (
    ", but the scores of made-up samples are the same, so this is taken to make no "
    "difference"
)

FROZEN = ", frozen"
"""What the description of a frozen parameter ends with."""

MAX_DEPTH = 3
"""Containers within each other that are looked into."""

MAX_TEXT_LENGTH = 80
"""Characters of a description; of a longer one the hash is kept."""

OUTPUTS = "outputs of the trial"
"""Entry with a few figures of a model's scores of made-up samples; in no hash, as they
differ a little between kinds of processors."""

TOLERANCE = 1e-3
"""Of the largest of these figures: differences that processors may make."""

_OF_TORCH = frozenset(vars(nn.Module()))


def contents(groups: ClientGroups) -> Contents:
    """Return what all groups' models hold: parameters, buffers, plain attributes."""
    found: Contents = {}
    for group in groups.members:
        owner = f"{group.name}: " if len(groups.members) > 1 else ""
        personal = set(group.model.personal_names)
        trained = {*group.model.shared_names, *personal}
        module = group.model.module
        for kind, name, tensor in tensors_of(module):
            block = ", personal" if name in personal else ""
            if kind == "parameter" and name not in trained:
                block = FROZEN
            found[f"{owner}{kind} {name!r}"] = _tensor(tensor) + block
        known = {id(tensor) for _, _, tensor in tensors_of(module)}
        for path, part in module.named_modules():
            own = _attributes(part, known)
            if own and type(part).__module__.startswith("torch."):
                text = _cut(", ".join(f"{key} {value}" for key, value in own.items()))
                found[f"{owner}settings of {path!r}"] = text
                continue
            for key, text in own.items():
                name = f"{path}.{key}".removeprefix(".")
                found[f"{owner}attribute {name!r}"] = text
        found[f"{owner}{OUTPUTS}"] = " ".join(f"{v:.9e}" for v in group.outputs)
    return found


def sha256_of(found: Contents) -> bytes:
    """Return the hash of a model's contents, in their order."""
    return sha256(json.dumps(list(_compared(found).items())).encode()).digest()


def same_on_all_ranks(comm: Communicator, found: Contents) -> str | None:
    """Compare a model over ranks by one small collective; a collective call.

    Returns
    -------
    str or None
        On rank 0, a sentence on attributes that differ where no scores do.

    Raises
    ------
    ConfigError
        On every rank, with the first difference and the ranks that have it.
    """
    words = np.frombuffer(sha256_of(found), dtype=np.uint16).astype(float).tolist()
    most = comm.allreduce_max([*words, *(-word for word in words)])
    if most[: len(words)] == [-word for word in most[len(words) :]]:
        return None
    first = comm.bcast_object(found)
    mine, harmless = _difference(first, found)
    text = None if mine is None else found.get(mine)
    rows = comm.gather_object((mine, text, _processor(), harmless))
    faults = [] if rows is None else [row for row in rows if not row[3]]
    error = ConfigError(_describe(first, rows, faults)) if rows and faults else None
    comm.raise_collectively(error)
    if rows is None:
        return None
    return f"{_where(first, rows, rows)}{HARMLESS}"


def same_as_begun(directory: Path, found: Contents, *, resumed: bool) -> str | None:
    """Record a run's model or, if it is resumed, compare; on the server alone.

    Settings of torch's layers are left out, as another version of torch may have more.

    Returns
    -------
    str or None
        A sentence on attributes that differ where no scores do.

    Raises
    ------
    ConfigError
        If the model is another one than the run began with.
    """
    path = directory / FILE
    found = _lasting(found)
    begun = _read(path) if resumed else None
    if begun is None:
        note = {"processor": _processor(), "contents": found}
        write_text(path, json.dumps(note, indent=1) + "\n")
        return None
    name, harmless = _difference(begun["contents"], found)
    if name is None:
        return None
    then, now = (_named(one, name) for one in (begun["contents"], found))
    if harmless:
        return f"{name} of the model was {then} and is {now}{HARMLESS}"
    msg = (
        f"{directory} cannot continue: the model that is built now is not the one that "
        f"the run began with; {name} was {then} and is {now}"
    )
    processors = (begun.get("processor"), _processor())
    if processors[0] != processors[1]:
        msg += f" (the processor's kind was {processors[0]} and is {processors[1]})"
    msg += (
        f". Put its code and options back as they were; if they are, {REMEDY}. If the "
        f"difference does not matter, remove {path}"
    )
    raise ConfigError(msg)


def same_as_trained(directory: Path, found: Contents, *, materialized: bool) -> None:
    """Compare a model, rebuilt to hold a client's values, with that of its run.

    Only what the client's state does not hold counts: frozen parameters and attributes;
    all of it if the client was never trained.

    Raises
    ------
    DataError
        If something differs.
    """
    begun = _read(directory / FILE)
    if begun is None:
        return
    same_scores = _same_outputs(begun["contents"], found)
    for name, then in _compared(begun["contents"]).items():
        now = found.get(name)
        if same_scores and _is_loose(name, then) and _is_loose(name, now or ""):
            continue
        kept = materialized and "attribute " not in name and not then.endswith(FROZEN)
        if now != then and not kept:
            msg = (
                f"{directory}: the model that is built now is not the one that was "
                f"trained; {name} was {then} and is {now or 'absent'}"
            )
            raise DataError(msg)


def _lasting(found: Contents) -> Contents:
    """Return what does not depend on the version of torch."""
    return {name: text for name, text in found.items() if "settings of " not in name}


def _compared(found: Contents) -> Contents:
    """Return what must be the same to the last bit."""
    return {name: text for name, text in found.items() if not name.endswith(OUTPUTS)}


def _is_loose(name: str, text: str) -> bool:
    """Return whether an entry is an attribute, or several, without an array in it."""
    plain = "attribute " in name or "settings of " in name
    return plain and " sha256 " not in text


def _difference(first: Contents, second: Contents) -> tuple[str | None, bool]:
    """Return the name of the first difference, and whether it does no harm."""
    firm = [
        {name: text for name, text in found.items() if not _is_loose(name, text)}
        for found in (first, second)
    ]
    name = _first_difference(*firm)
    if name is not None:
        return name, False
    name = _first_difference(first, second)
    return name, name is None or _same_outputs(first, second)


def _same_outputs(first: Contents, second: Contents) -> bool:
    """Return whether models gave the same scores, but for processors' rounding."""
    for name in {*first, *second}:
        if name.endswith(OUTPUTS):
            try:
                then, now = (_figures(one[name]) for one in (first, second))
            except (KeyError, ValueError):
                return False
            most = max(map(abs, filter(math.isfinite, then)), default=0.0)
            if len(then) != len(now) or not all(
                a == b or abs(a - b) <= TOLERANCE * most or (a != a and b != b)
                for a, b in zip(then, now, strict=True)
            ):
                return False
    return any(name.endswith(OUTPUTS) for name in first)


def _figures(text: str) -> list[float]:
    return [float(word) for word in text.split()]


_Row = tuple[str | None, str | None, str, bool]
"""Of a rank: the first difference, what it is there, processor, whether harmless."""


def _describe(first: Contents, rows: list[_Row], faults: list[_Row]) -> str:
    """Return a sentence on the first difference between ranks that does harm."""
    msg = f"the model is not the same on all ranks: {_where(first, rows, faults)}"
    processors = sorted({row[2] for row in rows})
    if len(processors) > 1:
        msg += f" (the ranks' processors are {' and '.join(processors)})"
    return f"{msg}; {REMEDY}"


def _where(first: Contents, rows: list[_Row], faults: list[_Row]) -> str:
    """Return what differs first, and on which ranks."""
    order = {name: k for k, name in enumerate(first)}
    name = min(
        (row[0] for row in faults if row[0] is not None),
        key=lambda name: order.get(name, len(order)),
    )
    differing = [rank for rank, row in enumerate(rows) if row[0] == name]
    other = rows[differing[0]][1]
    alike = [rank for rank in differing if rows[rank][1] == other]
    unlike = [rank for rank in differing if rows[rank][1] != other]
    described = "at another place" if other == first.get(name) else other or "absent"
    msg = (
        f"{name} is {_named(first, name)} on rank {SERVER} and {described} on "
        f"{_ranks(alike)}"
    )
    return f"{msg}, another on {_ranks(unlike)}" if unlike else msg


def _ranks(numbers: list[int]) -> str:
    return f"rank{'s' if len(numbers) > 1 else ''} {format_ids(numbers)}"


def _first_difference(first: Contents, second: Contents) -> str | None:
    """Return the first name whose value or place differs; `None` if none does."""
    first, second = _compared(first), _compared(second)
    for name, other in zip(first, second, strict=False):
        if name != other:
            return name if name not in second else other
        if first[name] != second[name]:
            return name
    rest = [*list(first)[len(second) :], *list(second)[len(first) :]]
    return rest[0] if rest else None


def _named(found: Contents, name: str) -> str:
    return found.get(name, "absent")


def _processor() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _read(path: Path) -> dict[str, Any] | None:
    """Return what was written when a run began; `None` where there is nothing."""
    try:
        note = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # of a version without, or damaged
        return None
    sound = isinstance(note, dict) and isinstance(note.get("contents"), dict)
    return note if sound else None


def _attributes(part: nn.Module, known: set[int]) -> Contents:
    """Return a module's plain attributes."""
    return {
        key: text
        for key, value in vars(part).items()
        if key not in _OF_TORCH and (text := _plain(value, known)) is not None
    }


def _tensor(tensor: Tensor) -> str:
    values = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    dtype = str(tensor.dtype).removeprefix("torch.")
    data = values.reshape(-1).view(torch.uint8).numpy().data
    return f"{dtype} {tuple(tensor.shape)} sha256 {_short(data)}"


def _plain(value: Any, known: set[int], depth: int = 0) -> str | None:
    """Return what an attribute is; `None` where that is more than plain values."""
    if id(value) in known or depth > MAX_DEPTH:
        return None
    if isinstance(value, Tensor):
        strided = value.layout == torch.strided and not value.is_quantized
        return None if value.is_meta or not strided else _tensor(value)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return None
        data = np.ascontiguousarray(value).tobytes()
        return f"array {value.dtype} {value.shape} sha256 {_short(data)}"
    if isinstance(value, bool | int | float | complex | str | np.generic):
        return _cut(repr(value))
    items: list[Any]
    if isinstance(value, Mapping):
        items = [item for pair in value.items() for item in pair]
    elif isinstance(value, list | tuple):
        items = list(value)
    else:
        return None
    inside = ", ".join(str(_plain(item, known, depth + 1)) for item in items)
    return _cut(f"{type(value).__name__} ({inside})")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT_LENGTH else f"sha256 {_short(text.encode())}"


def _short(data: Any) -> str:
    return sha256(data).hexdigest()[:16]
