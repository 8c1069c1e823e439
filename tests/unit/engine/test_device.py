"""Which device a rank computes on, and in which precision."""

import pytest
import torch

from fedapm_mpi.config.loader import validate
from fedapm_mpi.engine.device import open_device
from fedapm_mpi.errors import ConfigError
from tests.support.processes.cli_runs import (
    experiment,
)


def test_no_gpu_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"device: rank 1 on .* sees no GPU"):
        open_device("cuda", 1, [-1, 1])


def test_a_server_without_clients_needs_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_device("cuda", 0, [-1, 1]).type == "cpu"
    assert open_device("cpu", 1, [-1, 1]).type == "cpu"


def test_ranks_of_a_node_take_its_gpus_in_turn(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)
    nodes = [-1, 0, 0, 0, 4, 4, 6]
    found = [open_device("cuda", rank, nodes).index for rank in range(1, 7)]
    assert found == chosen == [0, 1, 0, 0, 1, 0]


def test_half_precision_needs_single_precision():
    with pytest.raises(ConfigError, match="precision 'bf16' needs dtype 'float32'"):
        validate(experiment("data", precision="bf16", dtype="float64"), "test")
