"""From a source to a data set directory: read, partition, split, write."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

from data_prep import plugin_calls
from data_prep.column_scales import unscaled
from data_prep.copies import own_copies
from data_prep.kept_labels import Keep, keep_labels
from data_prep.new_clients import Wanted, check_wanted, new_clients_last
from data_prep.partitioners import Pool, partitioners
from data_prep.partitioners.base import (
    Within,
    are_the_same,
    find_fault,
    may_overlap,
    properties,
)
from data_prep.regular_files import regular
from data_prep.sample_fields import writable
from data_prep.shifts import Clients, shifts
from data_prep.sources import Source, sources
from data_prep.split_checks import (
    REMEDY,
    REMEDY_DRAWN,
    check_own,
    check_trained,
    groups_on_both_sides,
)
from data_prep.splits import official_splits, own_splits, random_splits, rows_of
from data_prep.validation import check_size, checked_source
from fedapm_mpi.comm import SERVER, Communicator, Serial
from fedapm_mpi.config import plugin_sources
from fedapm_mpi.config.validation import validate_options
from fedapm_mpi.data.hdf5 import Compression
from fedapm_mpi.data.manifest import MANIFEST, Manifest, read_manifest
from fedapm_mpi.data.stored_types import Store, cast_storage
from fedapm_mpi.data.table import Table
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.plugins.names import display_name, plugin_label
from fedapm_mpi.registry import Registry, did_you_mean
from fedapm_mpi.utils.atomic_io import file_sha256
from fedapm_mpi.utils.rng import Purpose, generator

MAX_NAMED_FILES = 100
"""Maximum number of files of a source that a manifest names one by one."""

LATER: dict[str, dict[str, Any]] = {
    "arrays": {"target": None, "incomplete": False},
    "crisismmd": {"client": None},
    "frame": {
        "weight": None,
        "incomplete": False,
        "ordinal": {},
        "ids": (),
        "text": (),
        "tokenizer": None,
        "max_tokens": 128,
        "texts": (),
        "like": None,
    },
    "hf": {"weight": None, "incomplete": False, "ordinal": None, "ids": ()},
    "table": {
        "weight": None,
        "incomplete": False,
        "ordinal": None,
        "ids": (),
        "text": (),
        "tokenizer": None,
        "max_tokens": 128,
        "like": None,
    },
    "torch-dataset": {"weight": None, "incomplete": False},
    "watch": {"val": 0.0, "features": "windows"},
}
"""Options, by source, that were added later, and their defaults: a manifest omits them
at their defaults, so that data sets that were made before are still the same."""

LATER_OF_PARTITIONERS: dict[str, dict[str, Any]] = {"natural": {"merge": "in-turn"}}
"""The same, by partitioner."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of any preparation, whatever its source and partitioner."""

    clients: int | None = None
    test: float = 0.2
    val: float = 0.0
    split: Literal["random", "own", "official"] | None = None
    seed: int = 0
    shards: int | None = None
    store: Store | None = None
    compression: Compression | None = None
    new_clients: Wanted = None

    def __post_init__(self) -> None:
        check_wanted(self.new_clients)
        if not (0 <= self.test < 1 and 0 <= self.val < 1 and self.test + self.val < 1):
            msg = (
                f"test={self.test} and val={self.val} must be from 0 to below 1, and "
                "leave something for training"
            )
            raise ValueError(msg)
        for name in ("clients", "shards"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)
        if self.split == "official" and self.val:
            msg = f"split=official makes no val part, so leave out val={self.val}"
            raise ValueError(msg)
        if self.seed < 0:
            msg = f"seed must not be negative, got {self.seed}"
            raise ValueError(msg)


class Plan(NamedTuple):
    """A preparation, checked."""

    source: str
    options: dict[str, Any]
    """Of the source."""

    partitioner: dict[str, Any]
    """Name and options; empty if none was chosen."""

    shifts: tuple[dict[str, Any], ...]
    """Name and options of each, in the order in which they are applied."""

    settings: Settings

    keep: Keep | None
    """How many training samples each client keeps; None for all."""

    without_effect: tuple[str, ...]
    """Given keys that have no effect if the source's own split is used."""


def plan(source: str, values: Mapping[str, Any]) -> Plan:
    """Check all options before anything is read.

    Parameters
    ----------
    source
        Name of the source; underscores and dashes are the same.
    values
        Options as written, nested: those of `Settings`, of the source,
        ``partitioner`` with its own, ``keep`` with those of `Keep`, and ``shift`` with
        its own, or a list of such.

    Raises
    ------
    ConfigError
        With one line for each error.
    """
    dashed = source.replace("_", "-")
    source = sources.resolve(dashed if dashed in sources.builtin_names() else source)
    reader = sources.get(source)
    of_source = _options_of(source, reader)
    options, found = validate_options(
        plugin_label("source", source),
        reader,
        {key: value for key, value in values.items() if key in of_source},
        1,
    )
    return _plan(source, options, found, values, of_source)


def plan_made(name: str, options: Mapping[str, Any], values: Mapping[str, Any]) -> Plan:
    """Check all options of a source that a program has in memory.

    Parameters
    ----------
    name
        What the manifest calls it.
    options
        How it was made, as plain values, for the manifest.
    values
        Options as in `plan`, those of a source excepted.

    Raises
    ------
    ConfigError
        With one line for each error.
    """
    return _plan(name, dict(options), [], values, [])


def _plan(
    source: str,
    options: dict[str, Any],
    faults: Sequence[str],
    values: Mapping[str, Any],
    of_source: Sequence[str],
) -> Plan:
    """Return a plan from a source's options, checked, and all other values."""
    of_settings = list(inspect.signature(Settings).parameters)
    known = sorted({*of_source, *of_settings, "keep", "partitioner", "shift"})
    errors = [
        f"{key}: unknown key{did_you_mean(key, known)} (known: {', '.join(known)})"
        for key in values
        if key not in known
    ]
    errors += faults
    given = {key: value for key, value in values.items() if key in of_settings}
    settings, found = validate_options("prepare", Settings, given, 0)
    errors += found
    chosen, found = _partitioner(values.get("partitioner"))
    errors += found
    changes, found = _shifts(values.get("shift"))
    errors += found
    keep, found = _keep(values.get("keep"))
    errors += found
    if errors:
        raise ConfigError(
            "\n".join([f"cannot prepare {display_name(source)!r}:", *errors])
        )
    without_effect = [key for key in ("test", "val") if key in given.keys() - of_source]
    made = Settings(**settings)
    return Plan(source, options, chosen, changes, made, keep, tuple(without_effect))


def _options_of(source: str, reader: Callable[..., Any]) -> list[str]:
    """Return the options that a source takes."""
    try:
        return list(inspect.signature(reader).parameters)[1:]
    except (TypeError, ValueError) as error:
        msg = f"{plugin_label('source', source)}: its options cannot be read: {error}"
        raise ConfigError(msg) from error


def _partitioner(
    value: Any, key: str = "partitioner"
) -> tuple[dict[str, Any], list[str]]:
    """Return a partitioner with its defaults filled in, and what is wrong with it."""
    if value is None:
        return {}, []
    name, part, options, errors = _named(key, partitioners, value)
    if part is None:
        return {}, errors
    try:
        hints = get_type_hints(part, include_extras=True)
    except Exception:  # a user's, that can't be resolved here
        hints = {}
    for inner, kind in hints.items():
        if kind == Within and inner in options:
            options[inner], found = _partitioner(options[inner], f"{key}.{inner}")
            errors += found
    checked, found = validate_options(f"{key} {display_name(name)!r}", part, options, 3)
    later = LATER_OF_PARTITIONERS.get(name, {})
    return {"name": name, **_without_later(checked, later)}, errors + found


def _keep(value: Any) -> tuple[Keep | None, list[str]]:
    """Return how many samples are kept, and what is wrong with it."""
    if value is None:
        return None, []
    if not isinstance(value, Mapping):
        return None, ["keep: needs keep.fraction or keep.per_client"]
    checked, errors = validate_options("keep", Keep, value, 0)
    return (None if errors else Keep(**checked)), errors


def _shifts(value: Any) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """Return shifts with their defaults filled in, and what is wrong with them."""
    made, errors = [], []
    for one in value if isinstance(value, list) else [value] * (value is not None):
        name, part, options, found = _named("shift", shifts, one)
        errors += found
        if part is not None:
            checked, found = validate_options(
                plugin_label("shift", name), part, options, 2
            )
            made.append({"name": name, **checked})
            errors += found
    if "vertical" in [one["name"] for one in made[:-1]]:
        errors.append(
            "shift: vertical must be the last, as others would change what a client "
            "does not have"
        )
    return tuple(made), errors


def _named(
    key: str, registry: Registry[Any], value: Any
) -> tuple[str, Any, dict[str, Any], list[str]]:
    """Return a part's name, the part or None, its options, and what is wrong."""
    options = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = options.pop("name", None)
    if not isinstance(name, str):
        known = ", ".join(registry.names())
        return "", None, {}, [f"{key}: needs a name, {key}=NAME (known: {known})"]
    try:
        return registry.resolve(name), registry.get(name), options, []
    except ConfigError as error:
        return name, None, {}, [f"{key}: {error}"]


def prepare(
    wanted: Plan,
    origin: Path,
    directory: Path,
    *,
    force: bool = False,
    comm: Communicator | None = None,
    tell: Callable[[str], None] | None = None,
) -> tuple[Manifest, bool]:
    """Make a data set directory, unless it already exists with the same identity.

    Parameters
    ----------
    wanted
        Plan of the preparation, see `plan`.
    origin
        Path of the source.
    directory
        Directory of the data set.
    force
        Whether to replace another finished data set.
    comm
        Ranks that prepare it together: each reads the source, and writes some of the
        files. This process alone if None.
    tell
        Called on rank 0 with each note on how the source was read, and each question
        on a possible mistake in it.

    Returns
    -------
    Manifest
        Manifest of the directory.
    bool
        Whether anything was written.

    Raises
    ------
    DataError
        If the source is broken, the directory holds another data set or cannot be
        written.
    ConfigError
        If the partitioner does not fit the source.
    """
    ranks = comm or Serial()
    found: Manifest | dict[str, Any] = {}
    error: FedAPMError | None = None
    try:
        notify = tell if tell and ranks.rank == SERVER else lambda note: None
        source = plugin_calls.read(wanted.source, origin, wanted.options)
        found = _ready(wanted, source, directory, force, notify)
    except Exception as caught:  # whatever a user's plug-in raises
        error = to_fedapm_error(caught)
    ranks.raise_collectively(error)
    if isinstance(found, Manifest):
        return found, False
    return write_dataset(directory, **found, force=force, comm=ranks), True


def write_made(
    wanted: Plan,
    source: Source,
    directory: Path,
    *,
    force: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Manifest:
    """Make a data set directory from a source that a program has in memory.

    Parameters
    ----------
    wanted
        Plan of the preparation, see `plan_made`.
    source
        The samples.
    directory, force, tell
        As in `prepare`; an existing data set is never taken for the same.

    Raises
    ------
    DataError
        If the source is broken, or the directory cannot be written.
    ConfigError
        If the partitioner does not fit the source.
    """
    found = _ready(wanted, source, directory, True, tell or (lambda note: None))
    assert isinstance(found, dict)
    return write_dataset(directory, **found, force=force)


def _ready(
    wanted: Plan,
    source: Source,
    directory: Path,
    force: bool,
    tell: Callable[[str], None],
) -> Manifest | dict[str, Any]:
    """Return the manifest of an existing data set, or the arguments to write one."""
    source = checked_source(source, wanted.source)
    for note in (*source.notes, *source.warnings):
        tell(note)
    _check_split(wanted, source)
    partitioner = wanted.partitioner
    if not partitioner or (partitioner["name"] == "natural" and source.ids is None):
        partitioner = _default_partitioner(wanted.source, source)
    identity = _identity(wanted, partitioner, source)
    if (directory / MANIFEST).exists() and not force:
        return _finished(directory, identity)
    settings = wanted.settings
    check_size(settings.clients or len(source.id_names), len(source.table.classes))
    made = _divided(wanted, source, partitioner)
    # They take much of the memory, and have had their effect.
    source = replace(source, ids=None, groups=None, split=None)
    source, fitted = _fitted(source, made.training)
    if source.arrange is not None:
        source.arrange(made.in_order())
    table, made = _with_copies(wanted, source, made)
    table, notes = _shifted(wanted, source, table, made)
    for note in (*made.notes, *fitted, *unscaled(table, made.training)):
        tell(note)
    if settings.store is not None:
        table, notes_on_types = cast_storage(table, settings.store, *made.rows())
        for note in notes_on_types:
            tell(note)
    return {
        "table": table,
        "splits": made.splits,
        "client_names": [a + b for a, b in zip(made.names, notes, strict=True)],
        "partitioner": {**partitioner, **made.properties},
        "preparation": identity,
        "seed": settings.seed,
        "shards": settings.shards,
        "compression": settings.compression,
        "new_clients": made.new,
    }


class _Division(NamedTuple):
    """The samples of clients, each in a part such as train."""

    names: list[str]
    """Of the m clients, new ones last."""

    new: int
    """How many of them are new: they have no part in training."""

    splits: dict[str, list[NDArray[np.int64]]]
    """Split name to the rows of each client."""

    clients: Clients | None
    """What shifts see, if there are any and each sample has one client."""

    properties: dict[str, Any]
    """Of the partition, for the manifest."""

    notes: list[str]

    @property
    def training(self) -> list[NDArray[np.int64]]:
        """The rows that each client trains on, without new ones."""
        return self.splits["train"][: len(self.names) - self.new]

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the samples of all parts, those of new clients apart, each sorted."""
        old = len(self.names) - self.new
        number = int(self.in_order().max()) + 1
        whose = slice(None, old), slice(old, None)
        before, later = (
            rows_of([one for own in self.splits.values() for one in own[part]], number)
            for part in whose
        )
        return before, later

    def in_order(self) -> NDArray[np.int64]:
        """Return all rows in the order in which they are written."""
        return np.concatenate(
            [rows for parts in self.splits.values() for rows in parts]
        )


def _divided(wanted: Plan, source: Source, partitioner: Mapping[str, Any]) -> _Division:
    """Assign samples to clients, and those of each client to train, test and val."""
    target = source.table.target
    pool = Pool(
        source.table.labels.astype(np.int64),
        source.ids,
        source.groups,
        None if target is None else target.first(),
    )
    parts = _partition(pool, partitioner, wanted.settings)
    natural = _names(source, parts)
    names = natural or [f"client {i}" for i in range(len(parts))]
    splits = _split(wanted, source, pool, parts)
    seed = wanted.settings.seed
    last = new_clients_last(wanted.settings.new_clients, names, splits, seed)
    names, splits = last.of(names), {k: last.of(own) for k, own in splits.items()}
    trained = len(names) - last.new
    check_trained(
        {key: own[:trained] for key, own in splits.items()},
        names,
        source.table.dataset,
        published=_kind_of_split(wanted, source) == "own",
        remedy=REMEDY if natural else REMEDY_DRAWN,
    )
    splits, kept = _kept(wanted, pool, parts, splits, names)
    owned = parts if not last.new else last.of(parts)
    return _Division(
        names,
        last.new,
        splits,
        _seen_by_shifts(wanted, source, owned, splits["train"][:trained]),
        properties(parts),
        [*_notes_on_split(wanted, source, splits), *kept],
    )


def _seen_by_shifts(
    wanted: Plan,
    source: Source,
    parts: Sequence[NDArray[np.int64]],
    trained: Sequence[NDArray[np.int64]],
) -> Clients | None:
    if not (source.shifts or wanted.shifts) or may_overlap(parts):
        return None
    number = len(source.table.labels)
    owner, training = np.empty(number, np.int64), np.zeros(number, bool)
    for client, rows in enumerate(parts):
        owner[rows] = client
    for rows in trained:
        training[rows] = True
    return Clients(len(parts), owner, training, wanted.settings.seed)


def _with_copies(
    wanted: Plan, source: Source, made: _Division
) -> tuple[Table, _Division]:
    """Return table and division, copied if shifts change what several clients have."""
    if made.clients is not None or not (source.shifts or wanted.shifts):
        return source.table, made
    trained = len(made.names) - made.new
    copies = own_copies(source.table, made.splits, trained, wanted.settings.seed)
    return copies.table, made._replace(splits=copies.splits, clients=copies.clients)


def _default_partitioner(name: str, source: Source) -> dict[str, Any]:
    if source.ids is not None:
        return _partitioner("natural")[0]
    made = [name for name in partitioners.names() if not name.startswith("natural")]
    hint = f", or: {source.client_hint}" if source.client_hint else ""
    msg = (
        f"source {name!r} names no clients: choose how to make them with "
        f"partitioner=NAME clients=N (partitioners: {', '.join(made)}){hint}"
    )
    raise ConfigError(msg)


def _identity(
    wanted: Plan, partitioner: Mapping[str, Any], source: Source
) -> dict[str, Any]:
    """Return what every byte of the result depends on, as JSON values."""
    settings = wanted.settings
    # Keys without effect are absent, so that data sets that were made before a key
    # existed are still recognized.
    more: dict[str, Any] = {}
    if wanted.shifts:
        more["shift"] = [
            plugin_sources.without_folder(shift) for shift in wanted.shifts
        ]
    if source.skipped:
        more["skipped"] = [writable(name) for name in source.skipped]
    if source.notes:
        more["notes"] = [writable(note) for note in source.notes]
    for key in ("store", "compression", "new_clients"):
        if getattr(settings, key) is not None:
            more[key] = getattr(settings, key)
    if wanted.keep is not None:
        more["keep"] = asdict(wanted.keep)
    named = {"name": wanted.source, **_options(wanted)}
    parts = plugin_sources.names_in([named, partitioner, *wanted.shifts])
    code = plugin_sources.hashes_of(parts)
    if code:  # bytes depend on it, too; files count by their hashes, not folders
        more[plugin_sources.KEY] = code
    identity = {
        **more,
        "source": plugin_sources.without_folder(named),
        "files": _files(source.files),
        "partitioner": plugin_sources.without_folder(partitioner),
        "clients": settings.clients,
        "test": settings.test,
        "val": settings.val,
        "split": _kind_of_split(wanted, source),
        "seed": settings.seed,
        "shards": settings.shards,
    }
    # As it is read back: JSON has no tuples.
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _options(wanted: Plan) -> dict[str, Any]:
    """Return the source's options, without later ones at their defaults."""
    found = _without_later(wanted.options, LATER.get(wanted.source, {}))
    for key in ("like", "tokenizer"):  # folders, whose contents the manifest has
        if found.get(key) is not None:
            found[key] = Path(found[key]).name
    return found


def _without_later(
    options: Mapping[str, Any], later: Mapping[str, Any]
) -> dict[str, Any]:
    """Return options without those that were added later and have their defaults."""
    return {
        key: value
        for key, value in options.items()
        if key not in later or value != later[key]
    }


def _files(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Return name, size and checksum of each file, or one summary of very many."""
    try:
        each = [
            {
                "name": writable(f.name),
                "bytes": f.stat().st_size,
                "sha256": file_sha256(f),
            }
            for f in map(regular, files)
        ]
    except OSError as error:
        msg = f"cannot read {error.filename}: {error.strerror or error}"
        raise DataError(msg) from error
    if len(each) <= MAX_NAMED_FILES:
        return each
    return [
        {
            "name": f"{len(each)} files",
            "bytes": sum(file["bytes"] for file in each),
            "sha256": hashlib.sha256(json.dumps(each).encode()).hexdigest(),
        }
    ]


def _finished(directory: Path, identity: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a directory that holds the same preparation, complete."""
    manifest = read_manifest(directory)
    changed = sorted(
        key
        for key in {*identity, *manifest.preparation}
        if identity.get(key) != manifest.preparation.get(key)
        # Data sets that were made before code was recorded lack its hashes.
        and (key != plugin_sources.KEY or key in manifest.preparation)
    )
    if changed:
        msg = (
            f"{directory} already holds another data set (they differ in: "
            f"{', '.join(changed)}); choose another directory, or --force to replace it"
        )
        raise DataError(msg)
    for file in manifest.files:
        path = directory / file.name
        if not path.is_file() or path.stat().st_size != file.bytes:
            msg = f"{path} is missing or incomplete; --force prepares it again"
            raise DataError(msg)
    return manifest


def _partition(
    pool: Pool, partitioner: Mapping[str, Any], settings: Settings
) -> Sequence[NDArray[np.int64]]:
    options = dict(partitioner)
    name = options.pop("name")
    rng = generator(settings.seed, Purpose.PARTITION)
    parts = plugin_calls.partition(name, pool, settings.clients, rng, options)
    # For partitioners of users; tests check the built-in ones.
    found = find_fault(parts, len(pool.labels))
    if found:
        msg = f"{plugin_label('partitioner', name)} gave {found}"
        raise DataError(msg)
    return parts


def _kind_of_split(wanted: Plan, source: Source) -> str:
    # A published split is only replaced on request.
    default = "random" if source.split is None else "own"
    return wanted.settings.split or source.default_split or default


def _check_split(wanted: Plan, source: Source) -> None:
    """Check that the wanted split exists, before samples are assigned to clients."""
    kind, name = _kind_of_split(wanted, source), source.table.dataset
    if kind == "official" and source.groups is not None:
        msg = "split=official cuts through groups; leave group out, or split=random"
        raise ConfigError(msg)
    if kind != "own":
        return
    if source.split is None:
        msg = (
            f"split=own: {name} has no split of its own; leave split=own out for a "
            "random one"
        )
        raise ConfigError(msg)
    if wanted.without_effect:
        msg = (
            f"{' and '.join(wanted.without_effect)} would have no effect, as the data "
            "set's own split is used; leave it out, or set split=random"
        )
        raise ConfigError(msg)
    check_own(source.split, name)


def _notes_on_split(
    wanted: Plan, source: Source, splits: Mapping[str, Sequence[NDArray[np.int64]]]
) -> list[str]:
    codes, groups = source.split, source.groups
    if wanted.settings.test and not any(len(rows) for rows in splits["test"]):
        each = "sample" if groups is None else "group"
        return [
            f"there are no test samples: every client has only one {each}, which is "
            "trained on"
        ]
    if _kind_of_split(wanted, source) != "own" or codes is None or groups is None:
        return []
    note = groups_on_both_sides(codes, groups)
    return [note] * bool(note)


def _split(
    wanted: Plan, source: Source, pool: Pool, parts: Sequence[NDArray[np.int64]]
) -> dict[str, list[NDArray[np.int64]]]:
    settings = wanted.settings
    if are_the_same(parts):  # no sample may be for testing here, for training there
        one = _split(wanted, source, pool, parts[:1])
        return {name: own * len(parts) for name, own in one.items()}
    split = _kind_of_split(wanted, source)
    if split == "random":
        return random_splits(
            pool, parts, seed=settings.seed, test=settings.test, val=settings.val
        )
    if split == "official":
        return official_splits(parts, seed=settings.seed, test=settings.test)
    assert source.split is not None  # as _check_split has found
    splits = own_splits(source.split, parts)
    if wanted.options.get("val") and "val" not in splits:
        msg = (
            f"val={wanted.options['val']} is too little for one val sample; raise it, "
            "or leave it out"
        )
        raise ConfigError(msg)
    return splits


def _kept(
    wanted: Plan,
    pool: Pool,
    parts: Sequence[NDArray[np.int64]],
    splits: dict[str, list[NDArray[np.int64]]],
    names: Sequence[str],
) -> tuple[dict[str, list[NDArray[np.int64]]], list[str]]:
    """Return the splits with the training samples that are kept, and notes on them."""
    if wanted.keep is None:
        return splits, []
    if are_the_same(parts):
        one = {name: own[:1] for name, own in splits.items()}
        one, notes = _kept(wanted, pool, parts[:1], one, names[:1])
        return {name: own * len(parts) for name, own in one.items()}, notes
    seed = wanted.settings.seed
    splits, note = keep_labels(
        wanted.keep, splits, pool.labels, pool.groups, names, seed
    )
    return splits, [note]


def _fitted(
    source: Source, trained: Sequence[NDArray[np.int64]]
) -> tuple[Source, list[str]]:
    """Return the source with inputs that follow from training rows, and a note."""
    if source.fit is None:
        return source, []
    training = rows_of(trained, len(source.table.labels))
    table = source.fit(source.table, training)
    note = [] if source.describe is None else [source.describe(table)]
    return replace(source, table=table), note


def _shifted(
    wanted: Plan, source: Source, table: Table, made: _Division
) -> tuple[Table, list[str]]:
    """Return the table after all shifts, and a note on each client."""
    changes = (*source.shifts, *wanted.shifts)
    done: list[list[str]] = [[] for _ in made.names]
    for options in changes:
        assert made.clients is not None  # as there are shifts
        table, notes = plugin_calls.shift(options, table, made.clients)
        for of_client, note in zip(done, notes, strict=True):
            of_client += [note] * bool(note)
    return table, [f" ({', '.join(some)})" if some else "" for some in done]


def _names(source: Source, parts: Sequence[NDArray[np.int64]]) -> list[str] | None:
    """Name clients after their natural clients, if each has only whole ones."""
    if source.ids is None or may_overlap(parts):
        return None
    names = source.id_names
    natural = [np.unique(source.ids[rows]) for rows in parts]
    if sum(len(ids) for ids in natural) != (np.bincount(source.ids) > 0).sum():
        return None
    shown = 4
    return [
        " + ".join(names[i] for i in ids[:shown].tolist())
        + (f" + {len(ids) - shown} more" if len(ids) > shown else "")
        for ids in natural
    ]
