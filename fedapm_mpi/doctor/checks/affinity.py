"""Whether ranks compete for cores and GPUs."""

from collections.abc import Iterator, Sequence

from fedapm_mpi.doctor.findings import Finding, Observations, names, numbers
from fedapm_mpi.doctor.rank_info import RankInfo
from fedapm_mpi.engine.device import node_local_rank
from fedapm_mpi.placements.base import client_ranks
from fedapm_mpi.utils.affinity import find_oversubscription, underprovisioned

MIN_RANKS_OF_CROWDED_GPU = 4
"""Ranks on one GPU from which on they slow each other down."""


def planned_threads(observed: Observations, one: RankInfo) -> int:
    """Return the threads that a rank computes with.

    As in the configuration; without one, ``OMP_NUM_THREADS``; else one.
    """
    return observed.threads or one.omp_threads or 1


def oversubscription(observed: Observations) -> Iterator[Finding]:
    """Find ranks that together have more threads than cores.

    The server does not count: it waits without a core while others train.
    """
    every = observed.workers(observed.ranks)
    oversubscribed = find_oversubscription(
        {one.rank: one.cores for one in every},
        {one.rank: planned_threads(observed, one) for one in every},
        {one.rank: one.node for one in every},
    )
    by_host: dict[str, str] = {}
    for ranks, threads, cores in oversubscribed:
        host = observed.host(ranks[0])
        where = f"ranks {numbers(ranks)} on {host}"
        by_host.setdefault(
            host, f"{where}, {threads} threads on core(s) {numbers(cores)}"
        )
    if by_host:
        what = f"more threads than cores: {names(by_host.values())}"
        remedy = (
            "start fewer ranks on a node, give a rank fewer threads, or ask for more "
            "cores (srun --cpus-per-task); if the launcher binds ranks, use --bind-to "
            "none"
        )
        yield Finding("warning", "over-subscription", what, remedy)


def binding(observed: Observations) -> Iterator[Finding]:
    """Find ranks that are bound to fewer cores than they have threads."""
    every = observed.workers(observed.ranks)
    found = underprovisioned(
        {one.rank: one.cores for one in every},
        {one.rank: planned_threads(observed, one) for one in every},
    )
    if not found:
        return
    first = observed.ranks[found[0]]
    what = (
        f"{_ranks([observed.ranks[rank] for rank in found])} may use "
        f"{len(first.cores)} core(s), {numbers(first.cores)} on {first.host}, for "
        f"{planned_threads(observed, first)} threads"
    )
    remedy = (
        "have the launcher bind each rank to a core per thread (srun --cpus-per-task, "
        "mpiexec --map-by slot:PE=N of Open MPI) or to none (--bind-to none, srun "
        "--cpu-bind=none), or use one thread"
    )
    yield Finding("warning", "bound threads", what, remedy)


def gpu_map(observed: Observations) -> list[str | None]:
    """Return the GPU that each rank would train on; `None` for the processor."""
    size = len(observed.ranks)
    working = client_ranks(size)
    nodes = [one.node if one.rank in working else -1 for one in observed.ranks]
    return [
        one.gpus[node_local_rank(rank, nodes) % len(one.gpus)]
        if one.gpus and nodes[rank] >= 0
        else None
        for rank, one in enumerate(observed.ranks)
    ]


def gpu_sharing(observed: Observations) -> Iterator[Finding]:
    """Find ranks that share a GPU, or have none although the device is cuda."""
    mapped = gpu_map(observed)
    if observed.device == "cuda":
        without = [
            one for one in observed.workers(observed.ranks) if mapped[one.rank] is None
        ]
        if without:
            what = f"device is cuda, but {_ranks(without)} see no GPU"
            what += f" ({names(one.host for one in without)})"
            remedy = (
                "ask for one (--gres=gpu:1), install a torch for CUDA, or set "
                "device=cpu"
            )
            yield Finding("fault", "no GPU", what, remedy)
    users: dict[tuple[str, str], list[RankInfo]] = {}
    for one, gpu in zip(observed.ranks, mapped, strict=True):
        if gpu is not None:
            users.setdefault((one.host, gpu), []).append(one)
    most = max(users.values(), key=len, default=[])
    if len(most) < 2:
        return
    gpu = mapped[most[0].rank]
    what = f"{len(most)} ranks share one GPU: {_ranks(most)}, {gpu} on {most[0].host}"
    if len(most) < MIN_RANKS_OF_CROWDED_GPU:
        remedy = "this is fine for small models; the server uses none"
        yield Finding("note", "shared GPU", what, remedy)
    else:
        remedy = (
            "ask for more GPUs on a node, let each task see all of them (srun "
            "--gpu-bind=none), or start fewer ranks on a node"
        )
        yield Finding("warning", "shared GPU", what, remedy)


def _ranks(some: Sequence[RankInfo]) -> str:
    word = "rank" if len(some) == 1 else "ranks"
    return f"{word} {numbers(one.rank for one in some)}"
