"""What a saved configuration means where it lacks an option that came after it.

Run directories, checkpoints, sweeps and studies hold resolved configurations, in which
every option that their version knew has a value. An option that came later and whose
default does something else than was done before therefore gets what was done. A
configuration that a user writes gets the present default.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fedapm_mpi.config.renamed_keys import algorithm_name

WEIGHTED = {"units": "weighted"}

FORMER_DEFAULTS: dict[str, dict[str, Any]] = {
    "fedapm": WEIGHTED,
    "fedadmm": WEIGHTED,
    "iiadmm": WEIGHTED,
    "iceadmm": WEIGHTED,
    "flame": WEIGHTED,
}
"""Options by algorithm, as they were before they could be given.

What is once released here is never removed."""

RESOLVED_KEYS = (
    "data", "model", "algorithm", "rounds", "split", "participation", "seed", "dtype",
    "threads", "buffers", "evaluation", "checkpoint", "placement",
)  # fmt: skip
"""Keys of every resolved configuration, however old; seldom are all of them written."""

RESOLVED_PARTS = {"evaluation": ("every", "pooled"), "checkpoint": ("every", "keep")}
"""Keys inside some of them, likewise."""


def is_resolved(values: Mapping[str, Any]) -> bool:
    """Return whether a configuration is one that a run, say, has written.

    Parameters
    ----------
    values
        A configuration under the names of this version, not checked.
    """
    parts = ((values.get(key), names) for key, names in RESOLVED_PARTS.items())
    return all(key in values for key in RESOLVED_KEYS) and all(
        isinstance(part, Mapping) and all(name in part for name in names)
        for part, names in parts
    )


def with_former_defaults(
    values: Mapping[str, Any], factory: Callable[..., Any] | None = None
) -> dict[str, Any]:
    """Return a saved configuration in which no option of its algorithm is missing.

    Parameters
    ----------
    values
        A configuration under the names of this version. It is not changed.
    factory
        The algorithm's, if that is a user's own, which may inherit options.
    """
    found, part = dict(values), values.get("algorithm")
    missing = FORMER_DEFAULTS.get(str(algorithm_name(values)), {})
    if factory is not None:
        missing = inherited(factory)
    if isinstance(part, Mapping) and missing.keys() - part.keys():
        # The same class: that of a YAML file knows which keys were given twice.
        found["algorithm"] = type(part)({**missing, **part})  # type: ignore[call-arg]
    return found


def inherited(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return former defaults of options that a user's own algorithm inherits."""
    # Only here: records and summaries can be read without torch.
    from fedapm_mpi.algorithms._units import ConsensusUnits

    if inspect.isclass(factory) and issubclass(factory, ConsensusUnits):
        return dict(WEIGHTED)
    return {}
