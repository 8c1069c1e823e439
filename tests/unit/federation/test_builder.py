"""Models built and split from a configuration; mistakes are named before training."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.engine.tensor_files import write_tensors
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation import builder
from tests.support.processes.cli_runs import experiment


@pytest.fixture
def own(monkeypatch):
    """Return a function that offers a user's own part as ``own_builder:part``."""
    module = ModuleType("own_builder")
    monkeypatch.setitem(sys.modules, "own_builder", module)

    def offer(part):
        module.part = part
        return "own_builder:part"

    return offer


def test_a_model_depends_on_the_seed_alone(toy):
    inputs = read_manifest(toy["features"]).inputs
    built = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed + len(built))
        before = torch.get_rng_state()
        config = validate(experiment(toy["features"], seed=seed), "test")
        module = builder.build_module(config, config.model, inputs, 3)
        built.append(torch.cat([p.flatten() for p in module.parameters()]))
        assert before.shape == torch.get_rng_state().shape
    assert torch.equal(built[0], built[1])
    assert not torch.equal(built[0], built[2])


def test_a_factory_that_returns_no_module_is_named(toy, own):
    name = own(lambda inputs, num_classes: 3)
    config = validate(experiment(toy["features"], model=name), "test")
    inputs = read_manifest(toy["features"]).inputs
    with pytest.raises(ConfigError, match=r"own_builder:part' returned int; the fact"):
        builder.build_module(config, config.model, inputs, 3)


@pytest.mark.parametrize(
    ("sharing", "personal"),
    [("all", 0), ("none", 4 * 6 + 4 + 3 * 4 + 3), ("split", 3 * 4 + 3)],
)
def test_a_split_is_that_of_the_method(toy, sharing, personal):
    module = nn.Sequential()
    module.body, module.head = nn.Linear(6, 4), nn.Linear(4, 3)
    config = validate(experiment(toy["features"]), "test")
    model = builder.split_module(module, config, sharing, ())
    assert len(model.personal) == personal


def test_a_rule_of_ones_own_is_checked_where_it_is_called(own):
    rule = builder.split_rule(own(lambda name, tensor: name == "a"))
    assert rule("a", torch.ones(1)) is True
    assert rule("b", torch.ones(1)) is False
    undecided = builder.split_rule(own(lambda name, tensor: None))
    with pytest.raises(ConfigError, match="gave None for 'a'; it must return True"):
        undecided("a", torch.ones(1))
    with pytest.raises(ConfigError, match="'mlp' must be a function of your own"):
        builder.split_rule("mlp")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"wieght": torch.ones(1, 2)}, "holds 'wieght', which no model has; did you m"),
        ({"weight": torch.ones(2, 1)}, r"has the shape \(2, 1\) in .* and \(1, 2\)"),
        ({"weight": torch.tensor([[1e300, 0]], dtype=torch.float64)}, "without a loss"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(tmp_path, tensors, words):
    path = tmp_path / "start.safetensors"
    write_tensors(path, tensors)
    with pytest.raises(ConfigError, match=words):
        builder.load_initial([nn.Linear(2, 1)], str(path))


def test_what_a_start_lacks_stays_as_it_is(tmp_path):
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    biases = one.bias.clone(), other.bias.clone()
    path = tmp_path / "start.safetensors"
    write_tensors(path, {"weight": torch.tensor([[3.0, 4.0]], dtype=torch.float64)})
    builder.load_initial([one, other], str(path))
    for module, bias in zip((one, other), biases, strict=True):
        assert module.weight.tolist() == [[3, 4]]
        assert torch.equal(module.bias, bias)
    path.write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="initial_model: cannot read "):
        builder.load_initial([one], str(path))
