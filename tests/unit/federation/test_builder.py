"""Models built and split from a configuration; mistakes are named before training."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.engine.tensor_files import write_tensors
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation import builder
from fedapm_mpi.federation.federation import build_algorithm, build_federation
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import FEDSIM, experiment


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


def test_the_default_split_needs_biases(toy):
    values = {"data": str(toy["features"]), "model": "mlp", "algorithm": "fedsim"}
    config = validate(values, "test")
    module = nn.Sequential()
    module.body, module.head = nn.Linear(6, 4), nn.Linear(4, 3)
    model = builder.split_module(module, config, "split", ())
    assert model.personal_names == ["body.bias", "head.bias"]
    module = nn.Linear(6, 3, bias=False)
    with pytest.raises(ConfigError, match=r"no biases, which are personal by default"):
        builder.split_module(module, config, "split", ())


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


def test_a_replicate_starts_some_units_in_the_last_place_higher(toy):
    inputs = read_manifest(toy["features"]).inputs
    config = validate(experiment(toy["features"], seed=1), "test")
    module = builder.build_module(config, config.model, inputs, 3)
    before = [p.detach().numpy().copy() for p in module.parameters()]
    builder.move_up([module], 2)
    for old, new in zip(before, module.parameters(), strict=True):
        # numpy's own step to the next number, taken twice
        expected = np.nextafter(np.nextafter(old, np.float32(np.inf)), np.float32(9e9))
        assert np.array_equal(new.detach().numpy(), expected)


TUNING = {"block": "all", "lr": 0.1, "work": {"epochs": 1}}
SIZELESS = {"name": "own_builder:part"}


def federation(data, evaluation, algorithm=None):
    values = experiment(data, evaluation=evaluation)
    if algorithm is not None:
        parted = algorithm["name"] in ("fedbabu", SIZELESS["name"])
        values |= {"algorithm": algorithm}
        values |= {} if parted else {"split": None}
    config = validate(values, "test")
    made = build_algorithm(config.algorithm)
    return build_federation(config, read_manifest(config.data), made, 1)


FEDAVG = {"name": "fedavg"} | FEDSIM
LOCAL = {"name": "local"} | FEDSIM


@pytest.mark.parametrize(
    ("algorithm", "evaluation", "words"),
    [
        (SHARING_ALL["fedavg-ft"], {"fine_tune": TUNING},
         "evaluation.fine_tune: fedavg-ft fine-tunes its clients' models itself"),
        (SHARING_PART["fedbabu"], {"fine_tune": TUNING}, "fedbabu fine-tunes"),
        (FEDAVG, {"fine_tune": TUNING | {"block": "personal"}},
         "block is 'personal', but nothing is personal with algorithm 'fedavg'"),
        (LOCAL, {"fine_tune": TUNING | {"block": "shared"}},
         "block is 'shared', but nothing is shared with algorithm 'local'"),
        (LOCAL, {"shared_block": "both"}, "is 'both', but nothing is shared"),
        (SHARING_ALL["ditto"], {"shared_block": "both"},
         "shared_block is 'both', but ditto evaluates the models that it makes"),
        (SIZELESS, {"fine_tune": TUNING},
         "evaluation.fine_tune.batch_size: own_builder:part does not say"),
    ],
)  # fmt: skip
def test_an_evaluation_that_a_method_cannot_have(
    toy, own, algorithm, evaluation, words
):
    own(Sizeless)
    with pytest.raises(ConfigError) as caught:
        federation(toy["features"], evaluation, algorithm)
    assert words in str(caught.value)


class Sizeless:
    """A user's own method, which does not say how large its mini-batches are."""

    sharing, rows = "split", 1

    def new_client(self, shared, personal):
        return {"shared": shared.clone(), "personal": personal.clone()}

    def client_step(self, broadcast, client, problem, weight):
        return torch.zeros_like(broadcast, dtype=torch.float64)

    def server_step(self, server, total, round_):
        pass


def test_a_size_of_its_own_is_enough_to_fine_tune_any_method(toy, own):
    own(Sizeless)
    evaluation = {"fine_tune": TUNING | {"batch_size": 4}}
    assert federation(toy["features"], evaluation, SIZELESS).evaluation_costs.all()


def test_batches_of_fine_tuning_are_large_enough_for_the_model(toy):
    values = experiment(
        toy["features"], model="user_parts:batch_norm", split={"personal": ["3.*"]},
        last_batch="keep", algorithm=experiment("")["algorithm"] | {"batch_size": 0},
        evaluation={"fine_tune": TUNING | {"batch_size": 1}},
    )  # fmt: skip
    config = validate(values, "test")
    made = build_algorithm(config.algorithm)
    with pytest.raises(ConfigError, match=r"another evaluation\.fine_tune\.batch_size"):
        build_federation(config, read_manifest(config.data), made, 1)
