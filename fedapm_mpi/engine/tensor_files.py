"""Safetensors files: write tensors by name to a file, and read them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedapm_mpi.utils.atomic_io import atomic_write, write_error

READ_ERRORS = (OSError, SafetensorError)
"""What reading may raise; the library's own error where a file is damaged."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: str | None = None
) -> None:
    """Write a safetensors file whole, with at most one string of metadata.

    One key only: the order of several is not fixed, and neither are then the bytes.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    contiguous = {name: t.detach().contiguous() for name, t in tensors.items()}
    note = None if metadata is None else {"fedapm": metadata}
    try:
        atomic_write(path, lambda part: save_file(contiguous, part, metadata=note))
    except SafetensorError as error:  # how the library reports a full disk
        raise write_error(path, error) from error


def read_tensors(
    path: Path | str, wanted: Callable[[str], bool] | None = None, *, copy: bool = False
) -> dict[str, Tensor]:
    """Return a file's tensors by name.

    Parameters
    ----------
    path
        The file.
    wanted
        Which tensors to read, by name; all unless given.
    copy
        Whether to return copies; otherwise the tensors may lie in the file, which is
        mapped into memory.

    Raises
    ------
    OSError, SafetensorError
        If the file cannot be read or is damaged; see `READ_ERRORS`.
    """
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if wanted is None or wanted(name)]  # noqa: SIM118
        tensors = {name: file.get_tensor(name) for name in names}
        if copy:
            tensors = {n: torch.empty_like(t).copy_(t) for n, t in tensors.items()}
        return tensors


def tensor_names(path: Path) -> list[str]:
    """Return the names of a file's tensors; raises what `read_tensors` raises."""
    with safe_open(path, framework="pt") as file:
        return list(file.keys())
