"""Ranks of a healthy job, invented, and what the doctor may see of their data."""

from dataclasses import replace

from fedapm_mpi.doctor.findings import (
    DataReport,
    DataSet,
    Observations,
    ShardFault,
)
from fedapm_mpi.doctor.rank_info import RankInfo

MPICH = "MPICH Version: 5.0.2"


def rank(number, size=6, **changes):
    """Return a rank of a healthy job: two on each of the hosts n1, n2, …"""
    healthy = RankInfo(
        rank=number,
        size=size,
        host=f"n{number // 2 + 1}",
        node=number // 2 * 2,
        launched=size,
        launched_by="PMI_SIZE",
        launcher="srun",
        pmi="pmi2",
        library=MPICH,
        libraries=["/opt/mpich/lib/libmpi.so.12"],
        cores=[0, 1, 2, 3],
        versions={"python": "3.11.7", "fedapm_mpi": "0.1.0", "torch": "2.13.0"},
        source="abc",
        memory_size=10**10,
        memory_free=10**10,
    )
    return replace(healthy, **changes)


def ranks(size=6, **changes):
    return [rank(k, size, **changes) for k in range(size)]


def data(**changes):
    seen = [DataReport(rank=k, manifest="a", looked=k % 2 == 0) for k in range(6)]
    seen[4] = replace(seen[4], **changes)
    return Observations(
        ranks=ranks(), data=[DataSet(directory="/d", sha256="a", seen=seen)]
    )


def shard(kind, name="shard-1.h5"):
    return ShardFault(shard=name, kind=kind, text=f"/d/{name} is {kind}")
