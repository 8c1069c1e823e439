"""The device of a rank: its processor, or a GPU of its node."""

import os
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.rng import seed_globals

CPU = torch.device("cpu")

WORKSPACE = ":4096:8"
"""Workspace of cuBLAS with which its results are reproducible."""


def open_device(kind: str, rank: int, nodes: Sequence[int]) -> torch.device:
    """Return the device on which a rank trains, ready for use.

    The ranks of a node take its GPUs in turn; several may share one. A GPU's results
    are reproducible: no TF32, and only deterministic kernels.

    Parameters
    ----------
    kind
        ``cpu`` or ``cuda``.
    rank
        This rank.
    nodes
        The node of each rank; -1 for one without clients, which stays on its processor.

    Raises
    ------
    ConfigError
        If there is no GPU here.
    """
    if kind == "cpu" or nodes[rank] < 0:
        return CPU
    # Read when the library is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
    if not torch.cuda.is_available():
        built = torch.version.cuda or "none"
        msg = (
            f"device: rank {rank} on {socket.gethostname()} sees no GPU (torch "
            f"{torch.__version__}, built for CUDA {built}); ask for one, install a "
            "torch for CUDA, or leave device out"
        )
        raise ConfigError(msg)
    index = node_local_rank(rank, nodes) % torch.cuda.device_count()
    torch.cuda.set_device(index)
    torch.use_deterministic_algorithms(True)
    # It would fill every new tensor, to find reads of what was not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda", index)


def node_local_rank(rank: int, nodes: Sequence[int]) -> int:
    """Return a rank's number among the ranks of its node, from 0."""
    return sum(node == nodes[rank] for node in nodes[:rank])


def autocast(device: torch.device, *, enabled: bool) -> AbstractContextManager[object]:
    """Return an autocast context for bfloat16, or a null context."""
    if not enabled:  # entering torch's takes as long as a small layer
        return nullcontext()
    # Parameters change at every step, so that no converted copy can be reused.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def name_of(device: torch.device) -> str:
    """Return a device's name, for records."""
    if device.type == "cpu":
        return "cpu"
    return f"{device} {torch.cuda.get_device_name(device)}"


def seed_dropout(device: torch.device, seed: int) -> None:
    """Seed the random numbers of layers on a device, and of Python and NumPy."""
    seed_globals(seed)
    if device.type == "cpu":
        # Not `torch.manual_seed`: it takes a stack trace for each kind of accelerator.
        torch.default_generator.manual_seed(seed)
    else:
        torch.cuda.default_generators[device.index].manual_seed(seed)
