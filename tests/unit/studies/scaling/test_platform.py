"""Descriptions of a platform that are refused."""

from pathlib import Path

import pytest
import yaml

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.scaling import platform
from tests.support.processes.cli_runs import experiment, write_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "base.yaml", experiment(tmp_path / "toy"))
    return tmp_path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"nodes": 10**9, "ranks_per_node": 8}, "8000000000 ranks: give at most"),
        ({"nodes": 2, "ranks_per_node": 8, "clients": 10**12}, "clients: give at most"),
        ({"nodes": True, "ranks_per_node": 8}, "nodes: input should be a valid int"),
    ],
)
def test_a_platform_that_no_memory_holds(folder, values, expected):
    Path("p.yaml").write_text(
        yaml.safe_dump({"latency_us": 1, "bandwidth_GBps": 1} | values)
    )
    with pytest.raises(ConfigError, match=expected):
        platform.load(Path("p.yaml"))
