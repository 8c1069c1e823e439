"""Cores and threads of ranks: how many fit, and where there are too many."""

import os
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple


def available_cores() -> list[int]:
    """Return the cores that this process may use; none if unknown."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else []


def max_threads_per_rank(cores: Sequence[Sequence[int]], nodes: Sequence[int]) -> int:
    """Return the most threads per rank with which no two threads share a core.

    Parameters
    ----------
    cores
        Cores that each rank may use.
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


class Oversubscription(NamedTuple):
    """Ranks of a host with more threads than cores that they may all use."""

    ranks: list[int]
    threads: int
    cores: list[int]


def find_oversubscription(
    cores: Mapping[int, Sequence[int]],
    threads: Mapping[int, int],
    hosts: Mapping[int, Hashable],
) -> list[Oversubscription]:
    """Return, per host, the smallest set of oversubscribed ranks.

    Parameters
    ----------
    cores
        Cores that each training rank may use, by rank.
    threads
        Threads that each rank computes with.
    hosts
        Host of each rank.
    """
    found = []
    for host in dict.fromkeys(hosts[rank] for rank in cores):
        own = [rank for rank in cores if hosts[rank] == host]
        every = frozenset(core for rank in own for core in cores[rank])
        masks = {frozenset(cores[rank]) for rank in own} | {every}
        for mask in sorted(masks, key=len):
            among = [rank for rank in own if set(cores[rank]) <= mask]
            needed = sum(threads[rank] for rank in among)
            if needed > len(mask) > 0:
                found.append(Oversubscription(among, needed, sorted(mask)))
                break
    return found


def underprovisioned(
    cores: Mapping[int, Sequence[int]], threads: Mapping[int, int]
) -> list[int]:
    """Return the ranks that may use fewer cores than they have threads."""
    return [rank for rank, own in cores.items() if 0 < len(own) < threads[rank]]


def notes(ranks: Sequence[Mapping[str, Any]], idle: Collection[int]) -> list[str]:
    """Return a note for each kind of rank whose threads must share cores.

    Parameters
    ----------
    ranks
        `rank`, `host`, `cores` and `threads` of each rank.
    idle
        Ranks that do not train.
    """
    training = {one["rank"]: one for one in ranks if one["rank"] not in idle}
    cores = {rank: one["cores"] for rank, one in training.items()}
    threads = {rank: one["threads"] for rank, one in training.items()}
    hosts = {rank: one["host"] for rank, one in training.items()}
    narrow = underprovisioned(cores, threads)
    found = []
    if narrow:
        first = narrow[0]
        others = f" and {len(narrow) - 1} more" if len(narrow) > 1 else ""
        found.append(
            f"rank {first}{others} has {threads[first]} threads on {len(cores[first])} "
            f"core(s) of {hosts[first]}: bind no rank to one core (--bind-to none), or "
            "give each as many as it has threads"
        )
    for group in find_oversubscription(cores, threads, hosts):
        if len(group.ranks) > 1:
            found.append(
                f"{len(group.ranks)} training ranks on {hosts[group.ranks[0]]} have "
                f"{group.threads} threads but only {len(group.cores)} core(s): start "
                "fewer there, or ask for more cores"
            )
    return found
