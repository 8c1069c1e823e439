"""Hash the source of users' plug-ins, which is part of a run's identity.

A run that continues with other code than it began with is another run. So checkpoints
and ``provenance.json`` keep a SHA-256 of each file that defines a user's plug-in, and
of the modules it imports that are the user's too: neither Python's nor an installed
package's. Data that such code reads are not covered.
"""

import ast
import contextlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from fedapm_mpi.config.former_defaults import inherited
from fedapm_mpi.config.renamed_keys import OLD_PLUGIN_KINDS, with_new_options
from fedapm_mpi.config.schema import PLUGIN_KINDS, PLUGIN_LISTS
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins import errors as plugin_errors
from fedapm_mpi.plugins.loader import MODULE_PREFIX, loaded_module
from fedapm_mpi.plugins.names import is_user_plugin, names_file, rename_plugins
from fedapm_mpi.utils.atomic_io import file_sha256

KEY = "own_parts"
"""Key of the hashes in identities and ``provenance.json``."""

IN_LIST = re.compile(rf"({'|'.join(PLUGIN_LISTS)})\[([0-9]+)\]")
"""The place of a plug-in in a list of a configuration, such as ``metrics[0]``."""

FLAG = "--accept-changed-parts"


def user_plugins(
    config: Mapping[str, Any], *, deep: bool = True, loggers: bool = True
) -> dict[str, Any]:
    """Return the users' plug-ins in a plain configuration, with their options, by key.

    Anything is accepted, also what is no valid configuration.

    Parameters
    ----------
    config
        The configuration.
    deep
        Whether to include plug-ins in the options of others, such as lora's ``base``.
    loggers
        Whether to include loggers, which change no result.
    """
    found: dict[str, Any] = {}

    def look(key: str, part: Any) -> None:
        name = part.get("name") if isinstance(part, Mapping) else part
        if is_user_plugin(name):
            found[key] = part
        if deep and isinstance(part, Mapping):
            for inner, option in part.items():
                for k, one in enumerate(option if isinstance(option, list) else ()):
                    if isinstance(one, Mapping):
                        look(f"{key}.{inner}[{k}]", one)
                if isinstance(option, Mapping):
                    look(f"{key}.{inner}", option)

    # Under old keys as well: a saved configuration is searched before it is read.
    for key in (*PLUGIN_KINDS, *OLD_PLUGIN_KINDS):
        look(key, config.get(key))
    groups = config.get("groups")
    for k, group in enumerate(groups if isinstance(groups, list | tuple) else ()):
        if isinstance(group, Mapping):
            look(f"groups[{k}].model", group.get("model"))
    split = config.get("split")
    if isinstance(split, Mapping):
        look("split.rule", split.get("rule"))
    for key in (*PLUGIN_LISTS, *(("loggers",) if loggers else ())):
        named = config.get(key)
        for k, one in enumerate(named if isinstance(named, list | tuple) else ()):
            look(f"{key}[{k}]", one)
    return found


def user_plugin_names(config: Mapping[str, Any], *, loggers: bool = True) -> list[str]:
    """Return the names of the users' plug-ins in a plain configuration."""
    parts = user_plugins(config, loggers=loggers).values()
    return sorted({p["name"] if isinstance(p, Mapping) else p for p in parts})


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plain configuration in which files of plug-ins have no folder.

    So a run can continue after its files were moved; their hashes are compared.
    """

    def named(part: Any) -> Any:
        return rename_plugins(part, _without_folder)

    changes: dict[str, Any] = {k: named(config[k]) for k in PLUGIN_KINDS if k in config}
    groups = config.get("groups")
    if isinstance(groups, list | tuple):
        changes["groups"] = [
            {**group, "model": named(group["model"])}
            if isinstance(group, Mapping) and "model" in group
            else group
            for group in groups
        ]
    for key in PLUGIN_LISTS:
        listed = config.get(key)
        if isinstance(listed, list | tuple):
            changes[key] = [named(one) for one in listed]
    split = config.get("split")
    if isinstance(split, Mapping) and is_user_plugin(split.get("rule")):
        changes["split"] = {**split, "rule": _without_folder(split["rule"])}
    return {**config, **changes}


def with_defaults(
    values: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a saved configuration in which users' plug-ins have all their options.

    Missing options get the defaults of the code that `config` names under the same
    key, since `values` may name foreign code.
    """
    from fedapm_mpi.config.loader import LIST_REGISTRIES, REGISTRIES, check_plugin

    found = {**values, "groups": [dict(group) for group in values["groups"]]}
    found |= {key: list(values.get(key, ())) for key in PLUGIN_LISTS}
    named = user_plugins(config, deep=False, loggers=False)
    for key, part in user_plugins(values, deep=False, loggers=False).items():
        if isinstance(part, Mapping):  # not a split rule, which has no options
            name = {"name": named[key]["name"]}
            place = IN_LIST.fullmatch(key)
            if place is not None:
                registry = LIST_REGISTRIES[place[1]]
                defaults, errors = check_plugin(key, registry, name)
                found[place[1]][int(place[2])] = (
                    part if errors else {**defaults, **part}
                )
                continue
            where, _, kind = key.rpartition(".")
            defaults, errors = check_plugin(kind, REGISTRIES[kind], name)
            holder = found["groups"][int(where[7:-1])] if where else found
            if kind == "algorithm":
                part = {**inherited(REGISTRIES[kind].get(name["name"])), **part}
            known = part if errors else with_new_options(part, defaults)
            holder[kind] = part if errors else {**defaults, **known}
    return found


def _without_folder(name: str) -> str:
    if not names_file(name):
        return name
    where, colon, attribute = name.rpartition(":")
    return f"{Path(where).name}{colon}{attribute}"


def names_in(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of users' plug-ins in some configurations, at any depth."""
    found: list[str] = []

    def note(name: str) -> str:
        found.append(name)
        return name

    for part in parts:
        rename_plugins(part, note)
    return found


def without_folder(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plug-in's configuration with names without folders; see `portable`."""
    changed: dict[str, Any] = rename_plugins(part, _without_folder)
    return changed


def hashes(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every source file of a configuration's plug-ins.

    Those of loggers are left out: a run may be resumed with others.
    """
    return hashes_of(user_plugin_names(config, loggers=False))


def hashes_of(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of every source file of users' plug-ins, by a short name.

    The plug-ins must have been imported. Code without a file has Python's version.
    """
    files: dict[str, str] = {}
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        module = loaded_module(name)
        file = None if module is None else getattr(module, "__file__", None)
        if module is None or file is None:
            key = name.rpartition(":")[0]
            found[key] = f"built into Python {platform.python_version()}"
            continue
        root = _root(module, file)
        for path in _reached(file, root):
            key = _short(path, root)
            if files.get(key, path) != path:  # two of that name
                key = path
            files[key] = path
    return found | {key: _hash(path) for key, path in sorted(files.items())}


def changed(then: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """Return a sentence for each source file that has changed.

    `then` is `None` for runs of versions that kept no hashes: no change is known.
    """
    sentences = []
    for key in sorted({*then, *now}) if then is not None else ():
        assert then is not None
        if then.get(key) == now.get(key):
            continue
        if key not in now:
            sentences.append(
                f"{key} belonged to its plug-ins when it started and is gone"
            )
        elif key not in then:
            sentences.append(f"{key} belongs to its plug-ins now and did not")
        else:
            sentences.append(
                f"{key} changed since the run started (SHA-256 {then[key][:12]}, now "
                f"{now[key][:12]})"
            )
    return sentences


def refusal(directory: Path, sentences: Iterable[str]) -> ConfigError:
    """Return the error to raise where the source of plug-ins has changed."""
    return ConfigError(
        f"{directory} cannot continue: {'; '.join(sentences)}. Restore the old code, "
        f"start a new run, or continue with the new code by {FLAG}"
    )


def record(
    directory: Path, now: Mapping[str, str] | None, accepted: list[str]
) -> dict[str, Any]:
    """Return the hashes for ``provenance.json``, and all changes accepted so far.

    It is empty for a run without users' plug-ins.
    """
    before: Any = []
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        text = (directory / "provenance.json").read_text("utf-8")
        before = json.loads(text)["accepted_changes"]
    known = [*before, *accepted] if isinstance(before, list) else accepted
    found: dict[str, Any] = {KEY: dict(now)} if now else {}
    return found | ({"accepted_changes": known} if known else {})


def _root(module: ModuleType, file: str) -> str:
    """Return the folder from which a module is imported."""
    folder = Path(os.path.realpath(file)).parent
    levels = 0
    if not module.__name__.startswith(MODULE_PREFIX):
        levels = module.__name__.count(".") + (Path(file).name == "__init__.py")
    for _ in range(levels):
        folder = folder.parent
    return str(folder)


def _reached(file: str, root: str) -> list[str]:
    """Return a file and the user's files that it imports, directly or indirectly."""
    first = os.path.realpath(file)
    found, ahead = {first}, [first]
    while ahead:
        here = ahead.pop()
        for name, level in _imports(here):
            for path in _files_of(name, level, here, root):
                if path not in found:
                    found.add(path)
                    ahead.append(path)
    return sorted(found)


def _imports(file: str) -> Iterator[tuple[str, int]]:
    """Yield all names that a source file imports, with the level of relative ones."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # compiled code, which is hashed as it is
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield base, node.level
            for alias in node.names:  # which may be modules too
                yield f"{base}.{alias.name}".strip("."), node.level


def _files_of(name: str, level: int, here: str, root: str) -> Iterator[str]:
    """Yield the user's own files that importing a name executes."""
    steps = name.split(".") if name else []
    folder = Path(here).parent
    if level:
        bases = [folder.joinpath(*[".."] * (level - 1))]
        if not steps:
            yield from _existing(bases[0] / "__init__.py")
    else:
        bases = [folder, Path(root), Path.cwd()]
    for end in range(1, len(steps) + 1):
        module = None if level else sys.modules.get(".".join(steps[:end]))
        file = getattr(module, "__file__", None)
        if file is not None:
            yield from _existing(Path(file))
            continue
        for base in bases:
            stem = base.joinpath(*steps[:end])
            both = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
            there = [path for path in both if path.is_file()]
            if there:
                yield from _existing(there[-1])
                break


def _existing(path: Path) -> Iterator[str]:
    real = os.path.realpath(path)
    if Path(real).is_file() and plugin_errors.is_user_file(real):
        yield real


def _short(path: str, root: str) -> str:
    """Return a name of a file that does not depend on the place of its folder."""
    for base in (root, os.path.realpath(Path.cwd())):
        if Path(path).is_relative_to(base):
            return str(Path(path).relative_to(base))
    return os.path.relpath(path, root)


def _hash(path: str) -> str:
    """Return the SHA-256 of a file, or of the archive that it lies in."""
    for candidate in (Path(path), *Path(path).parents):
        if candidate.is_file():
            try:
                return file_sha256(candidate)
            except OSError as error:
                msg = f"cannot read {candidate}: {error.strerror or error}"
                raise ConfigError(msg) from error
    return sha256(os.fsencode(path)).hexdigest()
