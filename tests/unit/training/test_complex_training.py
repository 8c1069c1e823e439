"""Runs on complex inputs: models of a user's own learn, and are checked before."""

import numpy as np
import pytest

from fedapm_mpi import load_run, train
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.runner import dry_run
from tests.support.own_files import here, write  # noqa: F401

NETS = """\
import torch
from torch import nn


class Magnitude(nn.Module):
    def __init__(self, inputs, num_classes):
        super().__init__()
        (spec,) = inputs
        assert spec.complex
        self.head = nn.Linear(*spec.shape, num_classes)

    def forward(self, z):
        assert z.is_complex()
        return self.head(z.abs())


class Joined(nn.Module):
    # A complex layer, of two real parameters: its response to each of some waves.
    def __init__(self, inputs, num_classes, hidden=8):
        super().__init__()
        self.real = nn.Parameter(torch.randn(hidden, *inputs[0].shape) / 4)
        self.imaginary = nn.Parameter(torch.randn(hidden, *inputs[0].shape) / 4)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, z):
        weight = torch.complex(self.real, self.imaginary).to(z.dtype)
        return self.head(nn.functional.linear(z, weight).abs())


class Trained(nn.Module):
    def __init__(self, inputs, num_classes):
        super().__init__()
        self.head = nn.Linear(*inputs[0].shape, num_classes, dtype=torch.complex64)

    def forward(self, z):
        return self.head(z).abs()


class Scores(Magnitude):
    def forward(self, z):
        return super().forward(z) + 0j
"""

LENGTH, CLIENTS, EACH = 12, 4, 30


@pytest.fixture
def data(here):  # noqa: F811
    """Waves of unknown phase, of a frequency for each class, as spectra."""
    write("nets.py", NETS)
    rng = np.random.default_rng(0)
    y = np.arange(CLIENTS * EACH) % 3
    wave = np.exp(2j * np.pi * np.arange(LENGTH) * (y[:, None] + 1) / LENGTH)
    phase = np.exp(2j * np.pi * rng.random((len(y), 1)))
    z = np.fft.fft(wave * phase, axis=1) / 4 + rng.normal(scale=0.3, size=wave.shape)
    rows = np.arange(len(y)).reshape(CLIENTS, EACH)
    splits = {"train": list(rows[:, :20]), "test": list(rows[:, 20:])}
    given = Table("waves", [column("z", z.astype(np.complex64))], y, ("a", "b", "c"))
    write_dataset("data", given, splits)
    return "data"


def experiment(data, net, **changes):
    return {
        "data": data, "model": {"name": f"./nets.py:{net}"}, "rounds": 8, "seed": 1,
        "algorithm": {"name": "fedavg", "lr": 0.5, "batch_size": 10,
                      "work": {"epochs": 1}},
        "participation": {"name": "full"}, "evaluation": {"every": 8},
    } | changes  # fmt: skip


@pytest.mark.parametrize("net", ["Magnitude", "Joined"])
def test_models_of_complex_inputs_learn(data, net):
    found = {}
    for name, changes in {
        "single": {}, "double": {"dtype": "float64"}, "stacked": {"stacked": 2}
    }.items():  # fmt: skip
        wanted = experiment(data, net, **changes)
        run = load_run(train(wanted, run_dir=f"runs/{name}").directory)
        found[name] = run.records[-1]
        assert found[name]["accuracy"] > 0.9
    for other in ("double", "stacked"):
        loss = found[other]["train_loss"]
        assert loss == pytest.approx(found["single"]["train_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("Trained", "'head.weight' is complex, and trained parameters must be real; .*"
                    "torch.complex"),
        ("Scores", "gives scores of dtype torch.complex64; it must return"),
    ],
)  # fmt: skip
def test_what_must_be_real_is_said_before_training(data, net, said):
    with pytest.raises(ConfigError, match=said):
        dry_run(Serial(), validate(experiment(data, net), "test"))


def test_a_model_of_the_package_that_takes_none(data):
    wanted = experiment(data, "", model={"name": "transformer"})
    with pytest.raises(ConfigError, match="'z' is complex, which this model does not"):
        dry_run(Serial(), validate(wanted, "test"))
