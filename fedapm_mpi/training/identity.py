"""The identity of a run: what must be equal for one run to continue another."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config import plugin_sources
from fedapm_mpi.config.diff import config_diff
from fedapm_mpi.config.former_defaults import with_former_defaults
from fedapm_mpi.config.renamed_keys import with_new_names
from fedapm_mpi.config.schema import RESULT_NEUTRAL, Config
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.plugins.loader import forbid_imports
from fedapm_mpi.utils.atomic_io import file_sha256
from fedapm_mpi.utils.kernels import NATIVE
from fedapm_mpi.utils.text import format_list

LATER_KEYS: dict[str, tuple[Any, ...]] = {
    "update_transforms": (None, []),
    "metrics": (None, []),
    "evaluation.quantiles": (None, (), []),
    "optimizer": (None,),
    "schedule": (None,),
    "clip": (None,),
    "accumulate_batches": (None, 1),
    "evaluation.fine_tune": (None,),
    "diagnostics.multiplier": (None, False),
    "split.auto": (None,),
    "kernels": (None, NATIVE),
    "replicate": (None, 0),
    "stacked": (None, "off"),
}
"""Keys that older runs lack, with the values that do what was done without them."""

AS_BEFORE = {
    key: values[-1]
    for key, values in LATER_KEYS.items()
    if "." not in key and values[-1] is not None
}
"""What a key counts as that an identity lacks, so that a difference names values."""

FILE_HASHES = ("manifest", "initial_model_sha256")
"""Keys of an identity that are hashes of files, not keys of the configuration."""


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two runs must have in common for one to continue from the other.

    As plain JSON, which has lists only, so that it equals itself once read back.
    """
    whole = plugin_sources.portable(config)
    kept = {key: v for key, v in whole.items() if key not in RESULT_NEUTRAL}
    for key in LATER_KEYS:  # the identity of runs that had no such key
        kept = _without(kept, key.split("."), LATER_KEYS[key])
    identity: dict[str, Any] = json.loads(json.dumps(kept))
    return identity


def _without(
    values: Mapping[str, Any], keys: list[str], given: tuple[Any, ...]
) -> dict[str, Any]:
    """Return nested values without a key, if its value is one of those given."""
    key, *rest = keys
    if rest:
        inside = values.get(key)
        if not isinstance(inside, Mapping):
            return dict(values)
        return {**values, key: _without(inside, rest, given)}
    lacking = key not in values or values[key] not in given
    return {k: v for k, v in values.items() if lacking or k != key}


def run_identity(comm: Communicator, config: Config, manifest: str) -> dict[str, Any]:
    """Return the identity of a run that is about to start; a collective call.

    It is that of the configuration, with the SHA-256 of the files from which the run
    starts.

    Parameters
    ----------
    comm
        The ranks.
    config
        The experiment.
    manifest
        SHA-256 of the data's manifest.

    Raises
    ------
    ConfigError
        If a file cannot be read.
    """
    path = config.initial_model
    found: str | None = None
    sources: dict[str, str] = {}
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        try:
            sources = plugin_sources.hashes(config.plain())
            found = None if path is None else file_sha256(Path(path))
        except OSError as caught:
            error = ConfigError(f"cannot read {path}: {caught.strerror or caught}")
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    hashes: dict[str, Any] = {"manifest": manifest}
    if path is not None:
        hashes["initial_model_sha256"] = comm.bcast_object(found)
    sources = comm.bcast_object(sources if comm.rank == SERVER else None)
    whole = identity_of(config.plain()) | hashes
    return whole | ({plugin_sources.KEY: sources} if sources else {})


def identity_then(
    values: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the identity of a saved configuration, with options that came after it.

    They count with their defaults, or former defaults, which do what was done before
    there was a choice: so a run can continue after an upgrade.

    Parameters
    ----------
    values
        What was saved; keys that are neutral to results may be missing.
    config
        Under which the run is to continue.
    """
    from fedapm_mpi.config.loader import validate

    renamed, _ = with_new_names(values)
    renamed = with_former_defaults(renamed)
    whole = {**renamed, **{key: config[key] for key in RESULT_NEUTRAL}}
    # A saved configuration may be anybody's. It never has a part imported, nor its
    # options given to a user's own code. Where it is no configuration at all, it is
    # compared as it is.
    with suppress(ConfigError, LookupError, TypeError, ValueError):
        with forbid_imports("a saved configuration names it"):
            whole = validate(whole, "saved").plain()
        whole = plugin_sources.with_defaults(whole, config)
    if config["threads"] == "auto":  # whatever number came of it then
        whole["threads"] = "auto"
    return identity_of(whole)


def check_same_run(
    run: Path, saved: Mapping[str, Any], now: Mapping[str, Any], config: Config
) -> None:
    """Check that a run may continue from a checkpoint; sources are not compared.

    Parameters
    ----------
    run
        Its directory, for the message.
    saved, now
        Identity of the checkpoint and of the present run.
    config
        The present run's configuration.

    Raises
    ------
    ConfigError
        If they differ; the message lists each difference.
    """
    left_out = (*FILE_HASHES, plugin_sources.KEY)
    then = {key: v for key, v in saved.items() if key not in left_out}
    with suppress(LookupError, TypeError, AttributeError, ValueError):
        then = identity_then(then, config.plain())
    then |= {key: saved[key] for key in FILE_HASHES if key in saved}
    own = {key: v for key, v in now.items() if key != plugin_sources.KEY}
    differing = config_diff(AS_BEFORE | then, AS_BEFORE | own)
    if differing:
        msg = f"{run} cannot continue under another configuration:\n"
        end = (then.get("schedule") or {}).get("rounds")
        if any(line.startswith("schedule.rounds: ") for line in differing):
            differing.append(
                f"give schedule.rounds={end} to continue with its step sizes"
            )
        raise ConfigError(msg + format_list(differing))


def changed_sources(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each user's own source file that has changed since."""
    return plugin_sources.changed(
        saved.get(plugin_sources.KEY), now.get(plugin_sources.KEY, {})
    )
