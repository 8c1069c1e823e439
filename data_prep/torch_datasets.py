"""Write a data set directory from PyTorch data sets with numbered items.

::

    from data_prep import write_torch_dataset

    write_torch_dataset(
        {"train": training, "test": testing}, "data/mine", dataset="mine",
        clients=20, partitioner={"name": "dirichlet", "beta": 0.5},
    )
"""

import sys
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from data_prep.dataset_items import Items, source_of_items
from data_prep.pipeline import plan_made, write_made
from data_prep.sample_fields import PARTS
from data_prep.targets import Kind
from data_prep.writer import check_unused
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value

Owners = str | Sequence[Any]
"""A key of items that are mappings, or one entry for each sample."""


def write_torch_dataset(
    data: Any,
    directory: str | Path,
    *,
    dataset: str,
    label: str = "label",
    inputs: Sequence[str] = (),
    client: Owners | None = None,
    group: Owners | None = None,
    weight: Owners | None = None,
    target: Kind | None = None,
    incomplete: bool = False,
    classes: Sequence[str] | None = None,
    target_names: Sequence[str] = (),
    size: int | None = None,
    colours: Literal["rgb", "grey"] | None = None,
    force: bool = False,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> Manifest:
    """Write a data set directory from map-style data sets, whose items are read once.

    An item is ``(inputs, target)``, where inputs are one value or a mapping from names
    to values, or a mapping with a key for the target. A value is a number, an array, a
    tensor or an image of Pillow; the length of its first axis may differ by sample.

    Parameters
    ----------
    data
        A data set, or several by the name of their part: train, test, val.
    directory
        Where to write.
    dataset
        Name of the data set.
    label, inputs
        Keys of the target and the inputs, where items are mappings; all that have no
        other role are inputs by default.
    client, group, weight
        Keys of mappings, or sequences with one entry for each sample, in the order of
        `data`, part by part. Without clients, choose a partitioner. A weight is how
        much a sample counts in the loss.
    target
        What the target is: ``class``, ``real`` or ``binary``; classes by default,
        unless it has fractions.
    incomplete
        Whether samples may lack some of several targets, which are then NaN.
    classes, target_names
        Names of the classes, or of the targets.
    size, colours
        Width and height that images are scaled to, and ``rgb`` or ``grey``; as they
        are by default.
    force
        Whether to replace a finished data set.
    tell
        Called with each note on how the items were read.
    **options
        As of ``fedapm prepare``; see `write_frame`.

    Raises
    ------
    DataError
        If an item does not fit the others, or the directory has a finished data set.
    ConfigError
        If an option is not known, or the samples have no clients.
    """
    folder = Path(directory)
    check_unused(folder, force)
    items = Items(
        label=label,
        client=client if isinstance(client, str) else None,
        group=group if isinstance(group, str) else None,
        weight=weight if isinstance(weight, str) else None,
        inputs=tuple(inputs),
        target=target,
        incomplete=incomplete,
        classes=None if classes is None else tuple(classes),
        target_names=tuple(target_names),
        size=size,
        colours=colours,
    )
    wanted = plan_made("torch-dataset", asdict(items), options)
    made = source_of_items(
        dataset,
        _parts(data),
        items,
        clients=None if isinstance(client, str) else client,
        groups=None if isinstance(group, str) else group,
        weights=None if isinstance(weight, str) else weight,
    )
    return write_made(wanted, made.source, folder, force=force, tell=tell)


def _parts(data: Any) -> Mapping[str, Any]:
    """Return data sets by the name of their part."""
    parts = data if isinstance(data, Mapping) else {"": data}
    torch = sys.modules.get("torch")
    for name, one in parts.items():
        if isinstance(data, Mapping) and name not in PARTS:
            msg = (
                f"the part {format_value(name)} of the data sets is none of "
                f"{', '.join(PARTS)}; rename it"
            )
            raise DataError(msg)
        streams = torch is not None and isinstance(
            one, torch.utils.data.IterableDataset
        )
        if streams or not isinstance(one, Sized):
            msg = (
                f"a {type(one).__name__} has no length and numbered items; write it "
                "sample by sample with data_prep.write_samples"
            )
            raise DataError(msg)
    return parts
