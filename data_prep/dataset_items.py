"""The source that a map-style data set makes: item by item, each read once."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.gathered import Gathered, is_image, numbers
from data_prep.labelled import labelled
from data_prep.sample_fields import PARTS, Named, identifiers, sample_weights
from data_prep.sources.base import Source
from data_prep.targets import Kind
from fedapm_mpi.data.table import Table
from fedapm_mpi.errors import DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value


@dataclass(frozen=True)
class Items:
    """What items hold.

    Attributes
    ----------
    label
        Key of the target, where items are mappings.
    client, group, weight
        Keys of the client, the group and the weight of mappings; None where they have
        none.
    inputs
        Keys of the inputs, in the order of a model; all others by default.
    target
        What the target is; None for classes, unless it has fractions.
    incomplete
        Whether samples may lack some of several targets.
    classes, target_names
        Names of the classes, or of the targets.
    size, colours
        What images are scaled and turned to; see `Gathered`.
    """

    label: str = "label"
    client: str | None = None
    group: str | None = None
    weight: str | None = None
    inputs: tuple[str, ...] = ()
    target: Kind | None = None
    incomplete: bool = False
    classes: tuple[str, ...] | None = None
    target_names: tuple[str, ...] = ()
    size: int | None = None
    colours: Literal["rgb", "grey"] | None = None


class _Item(NamedTuple):
    """An item, taken apart."""

    inputs: Mapping[str, Any]
    target: Any
    client: Any = None
    group: Any = None
    weight: Any = None


class ItemSource(NamedTuple):
    """What items make."""

    source: Source
    sha256: str
    """Hash of all that they hold."""


def source_of_items(
    dataset: str,
    parts: Mapping[str, Any],
    items: Items,
    *,
    clients: Sequence[Any] | None = None,
    groups: Sequence[Any] | None = None,
    weights: Sequence[Any] | None = None,
) -> ItemSource:
    """Return the source of all items, each of which is read once.

    Parameters
    ----------
    dataset
        Name of the data set.
    parts
        Data sets with a length and numbered items, by the name of their part; one of
        the name ``""`` has no split of its own.
    items
        What they hold.
    clients, groups, weights
        One entry for each sample, where items do not have them.

    Raises
    ------
    DataError
        If there are none, one has no such fields, or does not fit the others.
    """
    inputs: dict[str, Gathered] = {}
    found: list[_Item] = []
    split: list[int] = []
    with ExitStack() as files:
        for where, code, item in _each(parts, items):
            if not inputs:
                for name in item.inputs:
                    new = Gathered(name, size=items.size, colours=items.colours)
                    inputs[name] = new
                    files.callback(new.close)
            _check_inputs(item, list(inputs), where)
            for name, gathered in inputs.items():
                gathered.add(item.inputs[name], where)
            # Without its inputs, which are spooled.
            found.append(item._replace(inputs={}, target=_target(item, where)))
            split.append(code)
        if not found:
            msg = f"{dataset}: there are no samples"
            raise DataError(msg)
        columns = [one.column() for one in inputs.values()]
    targets = _stacked([item.target for item in found], dataset)
    made = labelled(
        targets,
        f"{dataset}: the target",
        items.target,
        classes=items.classes,
        targets=items.target_names,
        incomplete=items.incomplete,
    )
    source = Source(
        Table(dataset, columns, made.codes, made.classes, target=made.target),
        (),
        split=None if "" in parts else np.array(split, np.int8),
        notes=(made.note,) if made.note else (),
    )
    if items.client is not None:
        clients = [item.client for item in found]
    if items.group is not None:
        groups = [item.group for item in found]
    if items.weight is not None:
        weights = [item.weight for item in found]
    digest = hashlib.sha256(repr((targets.tolist(), split)).encode())
    for one in inputs.values():
        digest.update(one.hexdigest().encode())
    source = _weighted(_with_owners(source, clients, groups), weights)
    return ItemSource(source, digest.hexdigest())


def _weighted(source: Source, weights: Sequence[Any] | None) -> Source:
    """Return a source with the weight of each sample."""
    if weights is None:
        return source
    name, number = source.table.dataset, len(source.table.labels)
    if len(weights) != number:
        msg = (
            f"{name}: there are {len(weights)} weights for {number} samples; give one "
            "for each, part by part in their order"
        )
        raise DataError(msg)
    each = [numbers(one, f"{name}: the weight") for one in weights]
    made = sample_weights(np.array(each), f"{name}: the weights")
    return replace(source, table=replace(source.table, weights=made))


def _with_owners(
    source: Source, clients: Sequence[Any] | None, groups: Sequence[Any] | None
) -> Source:
    """Return a source with the client and the group of each sample."""
    client = _owners(source, clients, "client")
    group = _owners(source, groups, "group")
    codes = None if group is None else group.codes
    if client is None:
        return replace(source, groups=codes)
    if codes is not None:
        codes = codes + client.codes * (int(codes.max()) + 1)
    return replace(
        source,
        ids=client.codes,
        id_names=client.names,
        groups=codes,
        notes=(*source.notes, *([client.note] if client.note else ())),
    )


def _owners(source: Source, entries: Sequence[Any] | None, what: str) -> Named | None:
    """Return the names and codes of clients or groups, one for each sample."""
    if entries is None:
        return None
    name, number = source.table.dataset, len(source.table.labels)
    if len(entries) != number:
        msg = (
            f"{name}: there are {len(entries)} {what}s for {number} samples; name one "
            "for each, part by part in their order"
        )
        raise DataError(msg)
    return identifiers(np.asarray(entries), f"{name}: the {what}s", what)


def _each(parts: Mapping[str, Any], items: Items) -> Iterator[tuple[str, int, _Item]]:
    """Yield where each item is, the code of its part, and the item."""
    for name, data in parts.items():
        for k in range(len(data)):
            where = f"item {k} of {name}" if name else f"item {k}"
            yield where, PARTS.get(name, 0), _taken_apart(data[k], items, where)


def _taken_apart(item: Any, items: Items, where: str) -> _Item:
    """Return the fields of an item: a pair of inputs and target, or a mapping."""
    if isinstance(item, Mapping):
        roles = [items.label, items.client, items.group, items.weight]
        wanted = [key for key in (*roles, *items.inputs) if key is not None]
        for key in wanted:
            if key not in item:
                names = [str(one) for one in item]
                msg = (
                    f"{where} has no {format_value(key)}{did_you_mean(key, names)} "
                    f"(it has: {format_some(names)})"
                )
                raise DataError(msg)
        chosen = items.inputs or [key for key in item if key not in roles]
        return _Item(
            {str(key): item[key] for key in chosen},
            item[items.label],
            None if items.client is None else item[items.client],
            None if items.group is None else item[items.group],
            None if items.weight is None else item[items.weight],
        )
    if not isinstance(item, tuple | list) or len(item) != 2:
        many = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        msg = (
            f"{where} is a {type(item).__name__}{many}; give (inputs, target), or a "
            "mapping from names to values"
        )
        raise DataError(msg)
    for role in ("client", "group", "weight"):
        if getattr(items, role) is not None:
            msg = (
                f"{where} is a pair, which has no {role}; give a mapping with the key "
                f"{format_value(getattr(items, role))}, or one {role} for each sample"
            )
            raise DataError(msg)
    values, target = item
    if not isinstance(values, Mapping):
        values = {"image" if is_image(values) else "x": values}
    chosen = items.inputs or list(values)
    return _Item({str(key): values.get(key) for key in chosen}, target)


def _check_inputs(item: _Item, names: Sequence[str], where: str) -> None:
    if list(item.inputs) and set(item.inputs) == set(names):
        return
    msg = (
        f"{where} has the inputs {format_some(list(item.inputs)) or 'none'}, where "
        f"earlier ones have {format_some(names)}; name those of all by inputs"
    )
    raise DataError(msg)


def _target(item: _Item, where: str) -> Any:
    """Return a target as an array, or as a text."""
    if isinstance(item.target, str):
        return item.target
    if item.target is None or is_image(item.target):
        what = "no target" if item.target is None else "an image as its target"
        msg = f"{where} has {what}; give a class, a number or several for each sample"
        raise DataError(msg)
    return numbers(item.target, f"{where}: its target")


def _stacked(targets: Sequence[Any], dataset: str) -> NDArray[Any]:
    """Return the targets of all items as one array."""
    texts = [isinstance(one, str) for one in targets]
    if all(texts):
        return np.array(targets)
    shapes = [
        None if text else one.shape for text, one in zip(texts, targets, strict=True)
    ]
    odd = [k for k, shape in enumerate(shapes) if shape != shapes[0]]
    if odd or shapes[0] is None:
        k = odd[0]
        msg = (
            f"{dataset}: the target of sample {k} is {_kind(targets[k])}, that of "
            f"sample 0 {_kind(targets[0])}; give all of one kind"
        )
        raise DataError(msg)
    return np.stack(targets)


def _kind(target: Any) -> str:
    if isinstance(target, str):
        return "a text"
    return f"of shape {target.shape}" if target.ndim else "a number"
