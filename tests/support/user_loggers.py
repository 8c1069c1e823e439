"""Metrics loggers as a user would write them, good and bad."""

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import experiment

CSV_LOGGER = """
import csv

from fedapm_mpi.tracking.base import MetricsLogger


class Csv(MetricsLogger):
    def __init__(self, run, keys, file="metrics.csv"):
        self.file = (run.path / file).open("a" if run.first_round else "w", newline="")
        self.keys, self.writer = keys, csv.writer(self.file)

    def log(self, record, step):
        self.writer.writerow([step, *(record.get(key) for key in self.keys)])

    def close(self):
        self.file.close()


class Failing(Csv):
    def log(self, record, step):
        if step == 1:
            raise ValueError("the tracker does not answer")


class NotClosing(Csv):
    def close(self):
        super().close()
        raise OSError("no space left")


def nothing(run):
    return [run]
"""


def run(toy, directory, *more, progress="lines", resume=False, **changes):
    values = experiment(toy["features"], loggers=["jsonl", "progress", *more])
    config = validate(values | changes, "test")
    return train(
        Serial(), config, directory=directory, progress=progress, resume=resume
    )
