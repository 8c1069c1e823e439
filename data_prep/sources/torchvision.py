"""Any data set of torchvision for classification that is on disk already."""

import importlib
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from data_prep.dataset_items import Items, source_of_items
from data_prep.sample_fields import PARTS
from data_prep.sources.base import Source, sources
from data_prep.targets import Kind
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value, truncate

SPLITS = (("train", "trainval"), ("test",), ("val", "valid"))
"""Values of the argument ``split`` that are tried for each part, the first that is."""

OWN = {"root", "download", "train"}
"""Arguments of classes that are given here."""

FUNCTIONS = {"transform", "target_transform", "transforms", "loader", "is_valid_file"}
"""Arguments of classes that are functions, which an option cannot be."""


@sources.register("torchvision")
def torchvision(
    path: Path,
    *,
    dataset: str,
    arguments: dict[str, Any] | None = None,
    parts: dict[str, str] | None = None,
    target: Kind | None = None,
    size: int | None = None,
    colours: Literal["rgb", "grey"] | None = None,
) -> Source:
    """Read a data set of torchvision.datasets that is on disk; nothing is downloaded.

    Images are stored as bytes with colours first; a model sees -1 to 1.

    Split: its parts, if its class has an argument ``train`` or ``split``.

    Parameters
    ----------
    path
        The folder that torchvision calls root.
    dataset
        Name of its class, such as ``CIFAR10``, ``MNIST`` or ``ImageFolder``.
    arguments
        Further arguments of the class, such as ``arguments.split=letters`` of EMNIST.
    parts
        What its argument ``split`` is for each part, where that is not the part's name,
        such as ``parts.train=train parts.test=val`` of ImageNet.
    target
        ``class``, ``real`` or ``binary``; classes by default.
    size
        Width and height that images are scaled to; as they are by default.
    colours
        ``rgb`` or ``grey``; by default what the first image is.

    Raises
    ------
    ConfigError
        If there is no such class, it has no such argument, or torchvision cannot be
        imported.
    DataError
        If the files are not there, or a sample cannot be read.
    """
    if size is not None and size < 1:
        msg = f"size must be at least 1, got {size}"
        raise ConfigError(msg)
    kind = _class(dataset)
    given = dict(arguments or {})
    _check(kind, given, parts)
    made = {
        name: _Readable(kind, data) for name, data in _made(path, kind, given, parts)
    }
    if not made:
        tried = ", ".join(value for values in SPLITS for value in values)
        msg = (
            f"{dataset} of torchvision has none of the parts {tried}; give those that "
            "it has with parts.train=NAME parts.test=NAME"
        )
        raise ConfigError(msg)
    # A single part says nothing on which samples are for testing.
    split = made if len(made) > 1 else {"": next(iter(made.values()))}
    classes = None
    if target in (None, "class"):
        classes = _class_names([one.data for one in made.values()])
    items = Items(target=target, classes=classes, size=size, colours=colours)
    found = source_of_items(dataset.lower(), split, items)
    note = f"SHA-256 of all samples: {found.sha256}"
    return replace(found.source, notes=(*found.source.notes, note))


class _Readable:
    """A data set whose errors name the sample."""

    def __init__(self, kind: Any, data: Any) -> None:
        self.kind, self.data = kind, data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, k: int) -> Any:
        try:
            return self.data[k]
        except Exception as error:  # A damaged image raises anything.
            msg = (
                f"{self.kind.__name__}: item {k} cannot be read ({_said(error)}); get "
                "its files again"
            )
            raise DataError(msg) from error


def _class(name: str) -> Any:
    """Return a class of torchvision.datasets.

    Raises
    ------
    ConfigError
        If there is none, or torchvision cannot be imported.
    """
    try:
        module = importlib.import_module("torchvision.datasets")
    except ImportError as error:
        msg = (
            "the source torchvision needs torchvision, which is not installed: install "
            "it with pip install 'fedapm-mpi[torchvision]'"
        )
        raise ConfigError(msg) from error
    except RuntimeError as error:
        msg = (
            f"torchvision cannot be imported ({_said(error)}): it must be built for "
            "this torch; install the one that is, from the index that torch is from"
        )
        raise ConfigError(msg) from error
    base = module.VisionDataset
    known = [
        one
        for one, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, base) and found is not base
    ]
    if name not in known:
        msg = (
            f"torchvision has no data set {format_value(name)}"
            f"{did_you_mean(name, known)} (dataset)"
        )
        raise ConfigError(msg)
    return vars(module)[name]


def _arguments(kind: Any) -> set[str]:
    """Return the arguments of a class, and those that it passes on to its base."""
    found: set[str] = set()
    for one in kind.__mro__:
        if "__init__" not in vars(one):
            continue
        taken = inspect.signature(one.__init__).parameters.values()
        found |= {p.name for p in taken if p.kind is not p.VAR_KEYWORD}
        if all(p.kind is not p.VAR_KEYWORD for p in taken):
            break
    return found - {"self", "args"}


def _check(
    kind: Any, given: Mapping[str, Any], parts: Mapping[str, str] | None
) -> None:
    """Refuse arguments that the class does not take, and parts that are none."""
    known = sorted(_arguments(kind) - OWN - FUNCTIONS)
    for key in given:
        if key not in known:
            msg = (
                f"{kind.__name__} of torchvision takes no argument "
                f"{format_value(key)}{did_you_mean(key, known)} (arguments; known: "
                f"{format_some(known)})"
            )
            raise ConfigError(msg)
    for name in parts or {}:
        if name not in PARTS:
            msg = f"parts.{name}: {name} is none of {', '.join(PARTS)}; rename it"
            raise ConfigError(msg)
    if parts and ("split" in given or "split" not in known):
        msg = (
            f"parts says what the argument split of {kind.__name__} is, which it "
            "does not have, or which arguments.split gives; leave parts out"
        )
        raise ConfigError(msg)


def _made(
    path: Path,
    kind: Any,
    given: Mapping[str, Any],
    parts: Mapping[str, str] | None,
) -> Iterator[tuple[str, Any]]:
    """Yield the data set of each part, by the part's name."""
    known = _arguments(kind)
    if "train" in known:
        for name, train in (("train", True), ("test", False)):
            yield name, _built(path, kind, {**given, "train": train})
    elif "split" not in known or "split" in given:
        yield "train", _built(path, kind, given)
    elif parts:
        for name, value in parts.items():
            yield name, _built(path, kind, {**given, "split": value})
    else:
        for values in SPLITS:
            for value in values:
                try:
                    data = _built(path, kind, {**given, "split": value})
                except _NoSplitError:
                    continue
                yield values[0], data
                break


class _NoSplitError(DataError):
    """A class has no such value of its argument split."""


def _built(path: Path, kind: Any, given: Mapping[str, Any]) -> Any:
    """Return a data set, from what is on disk alone."""
    known, own = _arguments(kind), dict(given)
    if "root" in known:
        own["root"] = str(path)
    if "download" in known:
        own["download"] = False
    name = kind.__name__
    try:
        return kind(**own)
    except TypeError as error:
        msg = f"{name} of torchvision: {_said(error)}; give it as arguments.KEY=VALUE"
        raise ConfigError(msg) from error
    except Exception as error:
        values = [f"{key}={value}" for key, value in given.items()]
        said = f"{name}({', '.join(values)})"
        msg = (
            f"{path}: {said} of torchvision cannot be read ({_said(error)}); put its "
            f"files there, as {name}(root, download=True) does"
        )
        unknown = "split" in given and isinstance(error, ValueError)
        raise (_NoSplitError if unknown else DataError)(msg) from error


def _class_names(parts: Sequence[Any]) -> tuple[str, ...] | None:
    """Return the names of the classes, where the data set has them."""
    # Most of torchvision's classes have this attribute, though their base does not.
    found = getattr(parts[0], "classes", None)
    if not isinstance(found, list | tuple) or not found:
        return None
    names = [
        ", ".join(map(str, one)) if isinstance(one, tuple) else str(one)
        for one in found
    ]
    twice = {name for name, count in Counter(names).items() if count > 1}
    return tuple(
        f"{name} ({k})" if name in twice else name for k, name in enumerate(names)
    )


def _said(error: Exception) -> str:
    return truncate(str(error).partition("\n")[0] or type(error).__name__, 200)
