"""How many threads fit on the cores that ranks were given; knows no MPI."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def own_cores() -> list[int]:
    """Return the cores that this process may use; none where that is not told."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else []


def fitting_threads(cores: Sequence[Sequence[int]], nodes: Sequence[int]) -> int:
    """Return the most threads a rank can have without two of them sharing a core.

    Parameters
    ----------
    cores
        Those that each rank may use.
    nodes
        The node of each rank; -1 for one that does not train.

    Returns
    -------
    int
        At least 1, and the same for all ranks: results depend on it.
    """
    fitting = []
    for rank, node in enumerate(nodes):
        own = set(cores[rank])
        sharing = sum(
            other == node and bool(own & set(cores[k])) for k, other in enumerate(nodes)
        )
        if node >= 0 and own:
            fitting.append(len(own) // sharing)
    return max(1, min(fitting, default=1))


def crowding(ranks: Sequence[Mapping[str, Any]], idle: Collection[int]) -> list[str]:
    """Return sentences on threads that have to share cores.

    Parameters
    ----------
    ranks
        Of each rank its `rank`, `host`, `cores` and `threads`.
    idle
        Ranks that do not train.
    """
    training = [one for one in ranks if one["rank"] not in idle and one["cores"]]
    found = []
    bound = [one for one in training if one["threads"] > len(one["cores"])]
    if bound:
        one = bound[0]
        others = f" and {len(bound) - 1} more" if len(bound) > 1 else ""
        found.append(
            f"rank {one['rank']}{others} has {one['threads']} threads on "
            f"{len(one['cores'])} core(s) of {one['host']}: bind no rank to one core "
            "(--bind-to none), or give each as many as it has threads"
        )
    for host in dict.fromkeys(one["host"] for one in training):
        here = [one for one in training if one["host"] == host]
        threads = sum(one["threads"] for one in here)
        cores = len({core for one in here for core in one["cores"]})
        if threads > cores and not any(one in bound for one in here):
            found.append(
                f"{len(here)} training ranks on {host} have {threads} threads but only "
                f"{cores} core(s): start fewer there, or ask for more cores"
            )
    return found
