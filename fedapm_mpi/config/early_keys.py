"""The one key that is read before the libraries are loaded which check the others."""

from collections.abc import Sequence
from pathlib import Path

from fedapm_mpi.config.overrides import read_overrides
from fedapm_mpi.config.yaml_io import read_mapping
from fedapm_mpi.errors import FedAPMError
from fedapm_mpi.utils.kernels import NATIVE, PORTABLE

KEY = "kernels"


def kernels_of(path: Path | str | None, overrides: Sequence[str] = ()) -> str:
    """Return the kernels that a configuration asks for.

    Anything that is not valid counts as ``native``: the loader, which reads all keys,
    reports it, a wrong value of this one too.

    Parameters
    ----------
    path
        The YAML file; `None` for none.
    overrides
        Items ``key=value`` that come after it.
    """
    try:
        given = [value for key, value in read_overrides(overrides) if key == KEY]
        if not given and path is not None and Path(path).is_file():
            given = [read_mapping(Path(path)).get(KEY)]  # a pipe is read only once
    except (FedAPMError, OSError, ValueError):
        return NATIVE
    return PORTABLE if given and given[-1] == PORTABLE else NATIVE
