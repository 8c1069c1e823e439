"""The trace of a run, and how a difference from a published one is named."""

import pytest
import torch
from torch import nn

from fedapm_mpi.algorithms.base import algorithms
from fedapm_mpi.models import models
from fedapm_mpi.models.base import PREFIXES
from fedapm_mpi.optim.optimizers import optimizers
from tests.support import portable
from tests.support.portable_cases import STEPS, cases

FOUND = {
    "digest": "d",
    "figures": "f",
    "trace": "aa bb cc",
    "names": ["step 1: loss", "step 1: gradient of w", "step 2: parameter w"],
}


def test_an_equal_run():
    assert (
        portable.difference(FOUND, {k: FOUND[k] for k in FOUND if k != "names"}) is None
    )


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"trace": "aa xx yy", "digest": "e"}, "parts at step 1: gradient of w"),
        ({"trace": "aa bb yy"}, "step 2: parameter w (here cc, published yy)"),
        ({"trace": "aa bb cc dd"}, "3 entries in its trace, published are 4"),
        ({"digest": "e"}, "another digest than published after the same steps"),
        ({"figures": "g"}, "another figures than published after the same states"),
    ],
)
def test_the_first_difference_is_named(other, text):
    assert text in portable.difference(FOUND, FOUND | other)


def test_data_come_first():
    found = {"data": {"a": "1", "b": "2"}, "cases": {"one": FOUND, "two": FOUND}}
    known = {"data": {"a": "1", "b": "3"}, "cases": {"one": FOUND}}
    parted = portable.differences(found, known)
    assert list(parted) == ["data b", "two"]


def test_one_bit_of_one_layer_shows_there(monkeypatch):
    class Objective:
        def __init__(self, module):
            self.model = type("Model", (), {"module": module})()
            self.loss_sum = 0.0

    def gradient(objective, part, batch):
        loss = objective.model.module(batch).square().mean()
        loss.backward()
        objective.loss_sum += loss.item()

    def entries(spoil):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        if spoil:
            net[1].register_forward_hook(
                lambda m, i, o: torch.nextafter(o, torch.full_like(o, 9))
            )
        trace = portable.Trace()
        handle = nn.modules.module.register_module_forward_hook(trace.forward)
        trace.gradient(gradient, Objective(net), "both", torch.ones(5, 3))
        handle.remove()
        return trace.entries

    plain, spoilt = entries(spoil=False), entries(spoil=True)
    names = [name for name, _ in plain]
    assert names == [name for name, _ in spoilt]
    assert names[0] == "step 1: parameter 0.weight"
    parted = [name for (name, a), (_, b) in zip(plain, spoilt, strict=True) if a != b]
    # A module's own hooks come after those of all modules, so the next layer shows it.
    assert parted[0] == "step 1: output 0 of 2 (Linear)"
    assert "step 1: gradient of 0.bias" in parted


def test_every_built_in_part_is_among_the_runs():
    assert set(STEPS) == set(optimizers.builtin_names())

    class Anywhere(dict):
        def __missing__(self, key):
            return key

    every = cases(Anywhere())
    named = {
        model if isinstance(model, str) else model["name"]
        for model in (config["model"] for config in every.values())
    }
    # Those of other libraries compute as these do.
    assert set(models.builtin_names()) - set(PREFIXES) <= named
    methods = {config["algorithm"]["name"] for config in every.values()}
    assert methods == set(algorithms.builtin_names())
    assert all(config["kernels"] == "portable" for config in every.values())
