"""Import SciPy, which only the reports of a scaling study need, where it is used."""

from importlib import import_module
from typing import Any

from fedapm_mpi.errors import ConfigError


def scipy_module(name: str) -> Any:
    """Import a module of SciPy, such as ``scipy.optimize``.

    Raises
    ------
    ConfigError
        If SciPy is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        msg = (
            "confidence bands and the model of a scaling study need SciPy, which is "
            "not installed: install it with pip install 'fedapm-mpi[scaling]'"
        )
        raise ConfigError(msg) from error
