"""SciPy is optional: without it one sentence says what to install."""

import sys

import numpy as np
import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.scaling.model_fit import nonnegative
from fedapm_mpi.studies.scaling.speedup import band


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("scipy.special", lambda: band([1.0, 2.0])),
        ("scipy.optimize", lambda: nonnegative(np.ones((3, 1)), np.ones(3))),
    ],
)
def test_without_scipy_a_sentence_says_what_to_install(monkeypatch, module, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'fedapm-mpi\[scaling\]'"):
        call()


def test_one_repetition_needs_no_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    assert band([3.0]).mean == 3
