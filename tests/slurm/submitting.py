"""What the tests of ``fedapm slurm submit`` share."""

import csv
import re

import yaml

SLOW = """
import time
from dataclasses import dataclass

from fedapm_mpi.algorithms.fedapm import FedAPM


@dataclass(frozen=True)
class Slow(FedAPM):
    def solve(self, *args, **options):
        time.sleep(0.05)
        return super().solve(*args, **options)
"""
"""FedAPM whose rounds take so long at least on any machine, with the same digest."""


def slow(cluster):
    """Return the algorithm of the configuration, slowed down."""
    (cluster.folder / "slow.py").write_text(SLOW)
    config = yaml.safe_load((cluster.folder / "config.yaml").read_text())
    return {**config["algorithm"], "name": "slow:Slow"}


def jobs(expected):
    return re.findall(r"^job (\d+):", expected, re.MULTILINE)


def ended(cluster, job):
    state = cluster.wait(job)
    assert state.name == "COMPLETED", f"{state}\n{cluster.output(job)}"


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def digest(run):
    return (run / "final" / "digest.txt").read_text()
