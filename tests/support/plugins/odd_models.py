"""Models of users that are unlike the usual, named ``odd_models:name``."""

import os
import random
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

FEATURES, WIDTH = 6, 4


class Net(nn.Module):
    """A body and a head of dense layers, which subclasses put something between."""

    def __init__(self, inputs, num_classes):
        super().__init__()
        self.body = nn.Linear(inputs[0].shape[0], WIDTH)
        self.head = nn.Linear(WIDTH, num_classes)

    def forward(self, x):
        return self.head(self.between(torch.relu(self.body(x))))

    def between(self, hidden):
        return hidden


class Masked(Net):
    """Has a mask, drawn in one of several ways, as a buffer, attribute or number."""

    def __init__(self, inputs, num_classes, *, draw: str, keep: str = "buffer"):
        super().__init__(inputs, num_classes)
        values = {
            "numpy": lambda: np.random.rand(WIDTH),  # noqa: NPY002
            "random": lambda: [random.random() for _ in range(WIDTH)],
            "torch": lambda: torch.rand(WIDTH).tolist(),
            "system": lambda: [byte / 256 for byte in os.urandom(WIDTH)],
            "unseeded": lambda: np.random.default_rng().random(WIDTH),
        }[draw]()
        mask = torch.tensor(np.asarray(values), dtype=torch.float32)
        if keep == "buffer":
            self.register_buffer("mask", mask)
        elif keep == "frozen":
            self.mask = nn.Parameter(mask, requires_grad=False)
        elif keep == "array":
            self.mask = mask.numpy()
        else:
            self.mask = float(sum(v / 256**k for k, v in enumerate(mask.double())))
        self.used = keep != "unused"

    def between(self, hidden):
        return hidden * torch.as_tensor(self.mask) if self.used else hidden


def masked(inputs, num_classes, *, draw: str, keep: str = "buffer"):
    return Masked(inputs, num_classes, draw=draw, keep=keep)


class Rotary(Net):
    """Turns pairs of features by angles kept in a complex tensor."""

    def __init__(self, inputs, num_classes, kind):
        super().__init__(inputs, num_classes)
        if kind == "offset":  # an odd number of floats ahead of the pairs
            self.register_buffer("first", torch.tensor(2.0))
        turn = torch.polar(torch.ones(2), torch.tensor([0.3, 1.2]))
        turn = turn.to(torch.complex128 if kind == "double" else torch.complex64)
        if kind in ("frozen", "trained"):
            self.turn = nn.Parameter(turn, requires_grad=kind == "trained")
        elif kind == "conjugate":
            self.register_buffer("turn", turn.conj())
        else:
            self.register_buffer("turn", turn)
        self.register_buffer("even", torch.tensor([True, False]))
        self.moves = kind == "moving"

    def between(self, hidden):
        pairs = torch.view_as_complex(hidden.reshape(-1, 2, 2)) * self.turn
        if self.moves and self.training:
            self.turn = self.turn * 1j
        return torch.view_as_real(pairs).reshape(-1, WIDTH)


def rotary(inputs, num_classes, *, kind: str = "plain"):
    return Rotary(inputs, num_classes, kind)


class Ordered(Net):
    """Its first parameter is a frozen order of features."""

    def __init__(self, inputs, num_classes):
        super().__init__(inputs, num_classes)
        order = nn.Parameter(torch.arange(FEATURES).flip(0), requires_grad=False)
        self._parameters = {"order": order, **self._parameters}

    def forward(self, x):
        return super().forward(x[:, self.order])


def ordered(inputs, num_classes):
    return Ordered(inputs, num_classes)


class Mapping(OrderedDict):
    """A dictionary whose items are attributes, too."""

    __getattr__ = OrderedDict.__getitem__


class Returning(Net):
    """Returns its scores in some wrapping, or something else."""

    def __init__(self, inputs, num_classes, kind):
        super().__init__(inputs, num_classes)
        self.kind = kind

    def forward(self, x):
        hidden = torch.relu(self.body(x))
        scores = self.head(hidden)
        two = namedtuple("Two", "logits aux")
        return {
            "tensor": lambda: scores,
            "dict": lambda: {"hidden": hidden, "logits": scores},
            "object": lambda: SimpleNamespace(logits=scores, hidden=hidden),
            "mapping": lambda: Mapping(logits=scores),
            "named": lambda: two(scores, hidden) if self.training else scores,
            "tuple": lambda: (scores, hidden),
            "list": lambda: [scores],
            "none": lambda: None,
            "other": lambda: {"scores": scores, "hidden": hidden},
            "numpy": lambda: scores.detach().numpy(),
            "logits": lambda: {"logits": scores.tolist()},
            "flat": lambda: scores.flatten(),
            "narrow": lambda: scores[:, :2],
            "whole": lambda: scores.argmax(1, keepdim=True).expand(scores.shape),
            "detached": lambda: scores.detach(),
            "training": lambda: (scores, hidden) if self.training else scores,
        }[self.kind]()


def returning(inputs, num_classes, *, kind: str):
    return Returning(inputs, num_classes, kind)


class Standard(nn.Module):
    """Standardises over the batch; for a batch of one its gradient is not finite."""

    def forward(self, x):
        return (x - x.mean(0)) / (1 + x.var(0, unbiased=False).sqrt())


def normed(inputs, num_classes, *, kind: str = "batch"):
    layer = {
        "batch": nn.BatchNorm1d(WIDTH),
        "own": Standard(),
        "layer": nn.LayerNorm(WIDTH),
        "groups": nn.GroupNorm(WIDTH, WIDTH),
        "pairs": nn.GroupNorm(WIDTH // 2, WIDTH),
    }[kind]
    return nn.Sequential(
        OrderedDict(
            body=nn.Linear(inputs[0].shape[0], WIDTH),
            norm=layer,
            relu=nn.ReLU(),
            head=nn.Linear(WIDTH, num_classes),
        )
    )


class Unusual(Net):
    """Has a tensor of an unusual kind."""

    def __init__(self, inputs, num_classes, kind):
        super().__init__(inputs, num_classes)
        self.kind = kind
        if kind == "lazy":
            self.extra = nn.LazyLinear(3)
        elif kind == "meta":
            self.register_buffer("extra", torch.zeros(3, device="meta"))
        elif kind == "sparse":
            self.register_buffer("extra", torch.eye(WIDTH).to_sparse())
        elif kind == "quantized":
            whole = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
            self.register_buffer("extra", whole)
        elif kind == "overlapping":
            self.extra = nn.Parameter(self.body.bias.data)
        elif kind == "frozen":
            self.requires_grad_(False)
        elif kind == "infinite":
            self.register_buffer("extra", torch.full((2,), -torch.inf))
        elif kind == "growing":
            self.register_buffer("extra", torch.zeros(1))
        elif kind == "half":
            self.half()
        elif kind == "empty":
            self.extra = nn.Parameter(torch.zeros(0, 5))
        elif kind == "tied":
            self.extra = nn.Linear(inputs[0].shape[0], WIDTH)
            self.extra.weight = self.body.weight
        elif kind == "scalars":
            self.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))
            self.register_buffer("seen", torch.tensor(3, dtype=torch.uint8))
            self.register_buffer("hidden", torch.ones(2).bool(), persistent=False)

    def between(self, hidden):
        if self.kind == "growing":
            self.extra = torch.cat([self.extra, self.extra])
        if self.kind == "late":
            self.register_buffer("extra", torch.ones(1))
        if self.kind == "cache":
            self.register_buffer("extra", torch.ones(len(hidden)), persistent=False)
        return hidden


def unusual(inputs, num_classes, *, kind: str):
    return Unusual(inputs, num_classes, kind)


def without_parameters(inputs, num_classes):
    return nn.Sequential(nn.ReLU())


_ONE = []


def always_one(inputs, num_classes, *, other: int = 0):
    """Return the same module at each call, as no factory may."""
    if not _ONE:
        _ONE.append(Net(inputs, num_classes))
    return _ONE[0]


class Noisy(Net):
    """Draws noise in its forward by NumPy and Python."""

    def between(self, hidden):
        noise = np.random.rand() + random.random()  # noqa: NPY002
        return hidden + noise


def noisy(inputs, num_classes):
    return Noisy(inputs, num_classes)
