"""The files of a saved data set: what ``save_to_disk`` wrote, or Arrow and parquet."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.arrow_files import reading, schema
from data_prep.regular_files import regular
from data_prep.sample_fields import PARTS
from fedapm_mpi.errors import DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value

DICT, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"
ENDINGS = (".arrow", ".feather", ".parquet")


class Saved(NamedTuple):
    """A saved data set."""

    parts: Mapping[str, tuple[Path, ...]]
    """Files with rows, by the name of their part, which is empty without parts."""

    features: Mapping[str, Any]
    """What columns are, as the library `datasets` writes it; may be empty."""

    others: tuple[Path, ...]
    """Other files that were read."""

    columns: tuple[str, ...]


def find_saved(path: Path, wanted: Sequence[str]) -> Saved:
    """Return the files of a data set, by its parts.

    Parameters
    ----------
    path
        A folder of ``save_to_disk``, a folder with Arrow or parquet files, or a file.
    wanted
        Parts that are read; all if empty.

    Raises
    ------
    DataError
        If there are none, a part is not there or of an unknown name, or files differ
        in their columns.
    """
    parts, others = _parts(path)
    for name in wanted:
        if name not in parts:
            hint = did_you_mean(name, list(parts))
            msg = (
                f"{path} has no part {format_value(name)} (parts){hint} "
                f"(it has: {format_some(sorted(parts)) or 'none'})"
            )
            raise DataError(msg)
    parts = {name: parts[name] for name in wanted} if wanted else parts
    odd = [name for name in parts if name and name not in PARTS]
    if len(parts) > 1 and odd:
        msg = (
            f"{path} has the part {format_value(odd[0])}, which is neither train, test "
            "nor validation; choose those to read with parts=[train,test]"
        )
        raise DataError(msg)
    files = [file for some in parts.values() for file in some]
    infos = {
        file.parent / INFO: None for file in files if (file.parent / INFO).exists()
    }
    names, features = _features(files)
    return Saved(parts, features, (*others, *infos), names)


def _parts(path: Path) -> tuple[dict[str, tuple[Path, ...]], list[Path]]:
    """Return the files of each part, and other files."""
    if not path.exists():
        msg = f"{path} does not exist; give the saved data set with --from"
        raise DataError(msg)
    if (path / DICT).exists():
        names = _json(path / DICT).get("splits")
        if not isinstance(names, list) or not names or not all(map(_is_name, names)):
            msg = f"{path / DICT} lists no splits; save the data set again"
            raise DataError(msg)
        each = {name: _saved_part(path / name) for name in names}
        return each, [path / DICT, *(path / name / STATE for name in names)]
    if (path / STATE).exists():
        return {"": _saved_part(path)}, [path / STATE]
    return _by_name(path), []


def _saved_part(folder: Path) -> tuple[Path, ...]:
    """Return the files that the state of a saved part lists, in order."""
    state = folder / STATE
    if not state.is_file():
        msg = f"{folder} has no {STATE}; save the data set again"
        raise DataError(msg)
    found = _json(state)
    if found.get("_indices_data_files") or found.get("_indices_files"):
        msg = (
            f"{folder} was saved with an index of its rows; call flatten_indices() and "
            "save it again"
        )
        raise DataError(msg)
    listed = found.get("_data_files")
    entries = listed if isinstance(listed, list) else []
    names = [str(one.get("filename")) for one in entries if isinstance(one, dict)]
    if not names or not all(map(_is_name, names)):
        msg = f"{state} lists no files; save the data set again"
        raise DataError(msg)
    for name in names:
        if not (folder / name).is_file():
            msg = f"{folder} lacks {name}, which its {STATE} lists; copy it again"
            raise DataError(msg)
    return tuple(regular(folder / name) for name in names)


def _is_name(name: Any) -> bool:
    """Return whether a name is that of something in the folder itself."""
    return isinstance(name, str) and Path(name).name == name and name != ".."


def _by_name(path: Path) -> dict[str, tuple[Path, ...]]:
    """Return files by the part that their names, or their folders' names, have."""
    found = [path] if path.is_file() else sorted(_inside(path))
    kinds: dict[str, list[Path]] = {}
    parts: dict[str, list[Path]] = {}
    for file in found:
        own = file.relative_to(path) if path.is_dir() else Path(file.name)
        ignored = any(name[0] == "." for name in own.parts)
        # The library keeps results of functions next to a data set under this name.
        if ignored or own.name.startswith("cache-") or not file.is_file():
            continue
        if own.suffix.lower() in ENDINGS:
            kinds.setdefault(own.suffix.lower(), []).append(file)
            parts.setdefault(_part_of(own), []).append(regular(file))
    if not kinds:
        folders = [one.name for one in sorted(path.glob("*")) if one.is_dir()]
        msg = (
            f"{path} is no saved data set: give a folder that save_to_disk wrote, or "
            f"files that end in {', '.join(ENDINGS)}"
            + (f"; it has the folders {format_some(folders)}" if folders else "")
        )
        raise DataError(msg)
    if len(kinds) > 1:
        msg = (
            f"{path} has files of several kinds ({', '.join(sorted(kinds))}), such as "
            f"{kinds[min(kinds)][0].name}; give files of one kind"
        )
        raise DataError(msg)
    if "" in parts and len(parts) > 1:
        named = next(name for name in parts if name)
        msg = (
            f"{parts[''][0]} belongs to no part by its name, but "
            f"{parts[named][0].name} to {named}; name a part in each, or in none"
        )
        raise DataError(msg)
    return {name: tuple(files) for name, files in parts.items()}


def _inside(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, and in those of its folders that are for parts."""
    for one in folder.iterdir():
        yield one
        if one.is_dir() and (one.name in PARTS or one.name == "data"):
            yield from one.iterdir()


def _part_of(file: Path) -> str:
    """Return the part that a file's path names; empty if none, or several."""
    words = re.split(r"[-_./ ]", str(file.with_suffix("")).lower())
    named = [word for word in words if word in PARTS]
    return named[0] if len({PARTS[word] for word in named}) == 1 else ""


def _features(files: Sequence[Path]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the columns of all files, and what they are."""
    first: tuple[tuple[str, ...], dict[str, Any]] | None = None
    for file in files:
        with reading(file):
            read = schema(file)
        described = _from_metadata(read.metadata or {})
        if not described and (file.parent / INFO).is_file():
            described = _json(file.parent / INFO).get("features") or {}
        here = tuple(read.names), described
        if first is None:
            first = here
        if here[0] != first[0]:
            odd = sorted({*here[0]} ^ {*first[0]}) or ["their order"]
            msg = (
                f"{file} has other columns than {files[0]} ({format_value(odd[0])}); "
                "give files with the same columns"
            )
            raise DataError(msg)
        odd = [name for name in here[0] if described.get(name) != first[1].get(name)]
        if odd:
            msg = (
                f"{file}: column {format_value(odd[0])} is described otherwise than in "
                f"{files[0]}; cast all parts to the same features"
            )
            raise DataError(msg)
    assert first is not None
    return first


def _from_metadata(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Return the features that a file itself describes, as the library writes them."""
    try:
        tree = json.loads(metadata.get(b"huggingface", b"{}"))
        found = tree["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(regular(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"cannot read {file} ({error}); save the data set again"
        raise DataError(msg) from error
    if not isinstance(found, dict):
        msg = f"{file} holds no mapping; save the data set again"
        raise DataError(msg)
    return found
