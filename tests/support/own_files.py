"""Files of a user's own parts, in a folder that is forgotten after each test."""

import sys
from pathlib import Path

import pytest

from fedapm_mpi.plugins import errors as plugin_errors

PLAIN = """\
from torch import nn


def plain(inputs, num_classes, *, hidden: int = 8):
    body = nn.Linear(inputs[0].shape[0], hidden)
    return nn.Sequential(body, nn.ReLU(), nn.Linear(hidden, num_classes))
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder, and forget whatever is imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    monkeypatch.setattr(plugin_errors, "LOADED", [])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
