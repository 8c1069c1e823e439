"""Batches too small for a model that looks at the whole batch, such as BatchNorm."""

import numpy as np

from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.client_groups import ClientGroups


def check_batches(
    groups: ClientGroups,
    manifest: Manifest,
    size: int | None,
    key: str = "algorithm.batch_size",
) -> None:
    """Check every client's batches against the smallest one that its model trains on.

    Parameters
    ----------
    groups
        The clients' models.
    manifest
        Their data.
    size
        Samples in a mini-batch, 0 for all; `None` if unknown: nothing is checked.
    key
        The key of the configuration that sets it.

    Raises
    ------
    ConfigError
        If a batch is too small; the message names the clients.
    """
    if size is None:
        return
    samples = manifest.counts["train"]
    for g, group in enumerate(groups.members):
        batching = group.model.batching
        small = batching.smallest(samples, size) < batching.least
        found = np.flatnonzero(small & (samples > 0) & groups.clients([g]))
        if not len(found):
            continue
        named = [f"{i} ({manifest.client_names[i]})" for i in found[:5].tolist()]
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        alone = bool((samples[found] < batching.least).any())
        whole = "" if len(groups.members) == 1 else f" of {group.name}"
        remedy = (
            "leave out clients with a single training sample, or take a model without "
            "statistics over the batch, say GroupNorm for BatchNorm"
            if alone
            else f"set last_batch to auto, merge or drop, or another {key} (not 1)"
        )
        msg = (
            f"the model{whole} cannot be trained on a batch of one sample "
            f"({batching.reason}), but {len(found)} client(s) have such a batch: "
            f"{', '.join(named)}{more}; {remedy}"
        )
        raise ConfigError(msg)
