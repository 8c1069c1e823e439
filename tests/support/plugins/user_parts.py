"""Parts of a user's own, named ``user_parts:name`` in configurations of the tests."""

import math
import os
import resource
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

POISONED = "TEST_POISONED_CLIENT"
"""Client in whose training `fragile` raises."""

POISON_FROM = "TEST_POISON_FROM"
"""Training passes over that client's samples that go well before one does not."""

POISON_TIME = "TEST_POISON_TIME"
"""File in which the time of the failure is written."""

FILE_LIMIT = "TEST_FILE_LIMIT"
"""Most bytes in a file that a rank with the model `confined` may write."""


def _rank():
    from fedapm_mpi.comm.launch_env import launched_rank

    return launched_rank()


def batch_norm(inputs, num_classes, *, hidden: int = 5):
    """Return a network with running statistics and a counter of batches."""
    if "TEST_CRASH_AT" in os.environ:
        # Only here, so that these parts can be imported by any checkout's ranks.
        from tests.support.processes.fault_injection import arm_from_environment

        arm_from_environment(_rank())
    (spec,) = inputs
    return nn.Sequential(
        nn.Linear(spec.shape[0], hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )


def dropping(inputs, num_classes):
    """Return a network with dropout."""
    body, head = nn.Linear(inputs[0].shape[0], 6), nn.Linear(6, num_classes)
    return nn.Sequential(body, nn.Dropout(0.3), head)


class Moody(nn.Module):
    """A linear model with other scores in training."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.body, self.head = nn.Linear(width, 4), nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x))) * (3 if self.training else 1)


def moody(inputs, num_classes):
    """Return a model that differs in training; see `Moody`."""
    return Moody(inputs[0].shape[0], num_classes)


def constant(inputs, num_classes):
    """Return a model that gives every sample the same scores."""
    body, head = nn.Linear(inputs[0].shape[0], 3), nn.Linear(3, num_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(body, head)


def confined(inputs, num_classes, *, hidden: int):
    """Return a model, after which this rank may write no large file."""
    if FILE_LIMIT in os.environ:
        limit = _number(FILE_LIMIT)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    body, head = nn.Linear(inputs[0].shape[0], hidden), nn.Linear(hidden, num_classes)
    return nn.Sequential(OrderedDict(body=body, relu=nn.ReLU(), head=head))


class Fragile(nn.Module):
    """A linear model that raises when it is to train on a certain client's samples."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.body = nn.Linear(width, 4)
        self.head = nn.Linear(4, num_classes)
        self.passes = 0

    def forward(self, x):
        if self.training and int(torch.round(10 * x[0, 0])) == _number(POISONED):
            self.passes += 1
            if self.passes > _number(POISON_FROM):
                Path(os.environ[POISON_TIME]).write_text(str(time.monotonic()))
                msg = "this client is poison"
                raise RuntimeError(msg)
        return self.head(torch.relu(self.body(x)))


def fragile(inputs, num_classes):
    """Return a model that fails where the environment says; see `Fragile`."""
    return Fragile(inputs[0].shape[0], num_classes)


class Towers(nn.Module):
    """An inlet of any width, shared side branches, and a head."""

    def __init__(self, width, num_classes, hidden, sides):
        super().__init__()
        self.inlet = nn.Sequential(
            nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 4)
        )
        for name, size in sides.items():
            self.add_module(f"side_{name}", nn.Linear(4, size))
        self.names = tuple(sides)
        self.head = nn.Linear(4, num_classes)

    def forward(self, *inputs, lengths=None):
        x = self.inlet(torch.cat([x.flatten(1) for x in inputs], dim=1))
        for name in self.names:
            branch = getattr(self, f"side_{name}")(x)
            x = x + torch.tanh(branch).mean(1, keepdim=True)
        return self.head(x)


def towers(inputs, num_classes, *, hidden: int = 3, sides: dict[str, int]):
    """Return a model whose inlet has its own width, with these side branches."""
    width = sum(math.prod(spec.shape) for spec in inputs)
    return Towers(width, num_classes, hidden, sides)


def all_on_last(costs, hosts):
    """Place every client on the last host."""
    return np.full(len(costs), hosts - 1)


def beyond(costs, hosts):
    """Place clients on a host that is not there."""
    return np.full(len(costs), hosts)


def undecided(costs, hosts):
    """Place clients elsewhere on each rank."""
    return np.full(len(costs), _rank() % hosts)


class Tiring:
    """A choice of all clients that fails in the second round."""

    def __init__(self):
        self.asked = 0

    def check(self, num_clients):
        pass

    def choose(self, num_clients, rng):
        self.asked += 1
        if self.asked > 2:  # once before the first round
            msg = "tired"
            raise ValueError(msg)
        return np.arange(num_clients)


class Torn:
    """A sum that fails on all ranks."""

    bytes_per_element = 8

    def sum(self, comm, updates, context):
        msg = "torn"
        raise ValueError(msg)


def is_head(name, parameter):
    """Tell whether a parameter is personal: a split rule."""
    return name.startswith("head")


def is_absent(name, parameter):
    """Tell that no parameter is personal: a split rule that leaves a block empty."""
    return False


def _number(variable):
    return int(os.environ.get(variable, "-1"))


def Surprise(*, scale: float = 1.0):
    """Return a metric: the mean of -log p of the label, times a scale."""
    # Only here, as above.
    from fedapm_mpi.metrics import Metric

    class _Surprise(Metric):
        label = "surprise"
        higher_is_better = False

        def compute(self, predictions, targets):
            chosen = predictions[np.arange(len(targets)), targets]
            return -scale * float(np.log(chosen).mean())

    return _Surprise()
