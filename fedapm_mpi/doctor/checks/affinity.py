"""Whether ranks are in each other's way on cores and GPUs."""

from collections.abc import Iterator, Sequence

from fedapm_mpi.doctor.findings import Finding, Observations, names, numbers
from fedapm_mpi.doctor.rank_info import RankInfo
from fedapm_mpi.engine.device import node_local_rank
from fedapm_mpi.placements.base import client_ranks
from fedapm_mpi.utils.affinity import find_oversubscription, underprovisioned

OVERSUBSCRIBED = 4
"""Ranks on one GPU from which on they are in each other's way."""


def planned_threads(observed: Observations, one: RankInfo) -> int:
    """Return with how many threads a rank is to compute.

    The configuration says so; without one, ``OMP_NUM_THREADS``; else one.
    """
    return observed.threads or one.omp_threads or 1


def oversubscription(observed: Observations) -> Iterator[Finding]:
    """Tell where ranks have more threads than cores that they may all use.

    The server does not count: it waits without a core while others train.
    """
    every = observed.workers(observed.ranks)
    crowds = find_oversubscription(
        {one.rank: one.cores for one in every},
        {one.rank: planned_threads(observed, one) for one in every},
        {one.rank: one.node for one in every},
    )
    told: dict[str, str] = {}
    for ranks, threads, cores in crowds:
        host = observed.host(ranks[0])
        where = f"ranks {numbers(ranks)} on {host}"
        told.setdefault(host, f"{where}, {threads} threads on core(s) {numbers(cores)}")
    if told:
        what = f"more threads than cores: {names(told.values())}"
        mend = (
            "start fewer ranks on a node, give a rank fewer threads, or ask for more "
            "cores (srun --cpus-per-task); where launchers bind, --bind-to none frees "
            "ranks"
        )
        yield Finding("warning", "over-subscription", what, mend)


def binding(observed: Observations) -> Iterator[Finding]:
    """Tell which ranks' threads are bound to fewer cores than they are."""
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
    mend = (
        "have the launcher bind ranks to as many cores (srun --cpus-per-task, mpiexec "
        "--map-by slot:PE=N of Open MPI) or to none (--bind-to none, srun "
        "--cpu-bind=none), or use one thread"
    )
    yield Finding("warning", "bound threads", what, mend)


def gpu_map(observed: Observations) -> list[str | None]:
    """Return of each rank the GPU that it would train on; `None` for its processor."""
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
    """Tell where ranks take one GPU, or find none where there should be one."""
    mapped = gpu_map(observed)
    if observed.device == "cuda":
        without = [
            one for one in observed.workers(observed.ranks) if mapped[one.rank] is None
        ]
        if without:
            what = f"device is cuda, but {_ranks(without)} see no GPU"
            what += f" ({names(one.host for one in without)})"
            mend = (
                "ask for one (--gres=gpu:1), install a torch for CUDA, or use the cpu"
            )
            yield Finding("fault", "no GPU", what, mend)
    users: dict[tuple[str, str], list[RankInfo]] = {}
    for one, gpu in zip(observed.ranks, mapped, strict=True):
        if gpu is not None:
            users.setdefault((one.host, gpu), []).append(one)
    most = max(users.values(), key=len, default=[])
    if len(most) < 2:
        return
    gpu = mapped[most[0].rank]
    what = f"{len(most)} ranks take one GPU: {_ranks(most)}, {gpu} on {most[0].host}"
    if len(most) < OVERSUBSCRIBED:
        mend = "that is fine for small models; the server takes none"
        yield Finding("note", "shared GPU", what, mend)
    else:
        mend = (
            "ask for more GPUs on a node, let each task see all of them (srun "
            "--gpu-bind=none), or start fewer ranks on a node"
        )
        yield Finding("warning", "shared GPU", what, mend)


def _ranks(some: Sequence[RankInfo]) -> str:
    word = "rank" if len(some) == 1 else "ranks"
    return f"{word} {numbers(one.rank for one in some)}"
