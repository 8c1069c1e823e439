"""A valid configuration, and what is wrong with a changed one."""

import pytest

from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError

VALID = {
    "data": "somewhere",
    "rounds": 3,
    "model": "mlp",
    "split": {"personal": ["head.*"]},
    "algorithm": {
        "name": "fedapm",
        "rho": 0.01,
        "sigma": 0.01,
        "lr_personal": 0.1,
        "lr_shared": 0.1,
        "batch_size": 10,
        "personal_work": {"epochs": 1},
        "shared_work": {"steps": 4},
    },
}


def changed(**overrides):
    return VALID | overrides


def errors_of(values) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(values, "test")
    return str(caught.value)
