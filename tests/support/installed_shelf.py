"""A distribution with plug-ins by entry points, to be installed in a folder."""

from tests.support.processes.cli_runs import experiment

PLUGINS = '''\
"""Plug-ins of an installed package."""

from dataclasses import dataclass

from torch import nn

from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class Renamed(FedAvg):
    """FedAvg by another name."""

    broken: bool = False

    def client_step(self, broadcast, client, problem, weight):
        if self.broken:
            raise ValueError("no")
        return super().client_step(broadcast, client, problem, weight)


def plain(inputs, num_classes, *, hidden: int = 8):
    body = nn.Linear(inputs[0].shape[0], hidden)
    return nn.Sequential(body, nn.ReLU(), nn.Linear(hidden, num_classes))


def source(path, *, rows: int = 4):
    """A source."""
'''

ENTRY_POINTS = """\
[fedapm_mpi.algorithms]
renamed = shelf.plugins:Renamed
fedavg = shelf.plugins:Renamed
gone = shelf.plugins:Gone
away = shelf.away:Gone

[fedapm_mpi.models]
plain = shelf.plugins:plain
mlp = shelf.plugins:plain

[fedapm_mpi.tasks]
smooth = shelf.plugins : Classification

[fedapm_mpi.sources]
my_table = shelf.plugins:source

[fedapm_mpi.launchers]
aprun = shelf.plugins:plain

[other.models]
elsewhere = shelf.plugins:plain
"""

FEDAVG = {"lr": 0.1, "batch_size": 8, "work": {"epochs": 1}}


def install(site, name, entry_points, version="1.2"):
    metadata = site / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    (metadata / "entry_points.txt").write_text(entry_points)


def config(toy, **changes):
    algorithm = {"name": "renamed", **FEDAVG}
    return experiment(toy["features"], algorithm=algorithm, split=None) | changes
