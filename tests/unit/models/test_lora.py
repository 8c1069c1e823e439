"""Low-rank adapters: what they compute, what is frozen, and models that start from a
file; and splits by position."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support.data.model_tasks import CIFAR10, CREMA_D, KU_HAR, build, samples
from tests.support.processes.cli_runs import FEDAPM, FEDSIM, digest_of, experiment

MLP = {"name": "mlp", "hidden": [8, 6]}
LORA = {"name": "lora", "base": MLP, "rank": 2, "scale": 3.0}


def run(path, data, **changes):
    config = validate(experiment(data, **changes), "test")
    train(Serial(), config, directory=path, progress="none")
    return path


def test_it_begins_as_its_base_whose_names_it_keeps():
    base, whole = build("mlp", KU_HAR, 8, hidden=[8, 6]), None
    whole = build("lora", KU_HAR, 8, base=MLP, rank=2)
    plain = dict(base.named_parameters())
    named = dict(whole.named_parameters())
    for name, tensor in plain.items():
        assert torch.equal(named.pop(name), tensor)
    assert {name: tuple(p.shape) for name, p in named.items()} == {
        "body.0.lora_a": (2, 384), "body.0.lora_b": (8, 2),
        "body.2.lora_a": (2, 8), "body.2.lora_b": (6, 2),
        "head.lora_a": (2, 6), "head.lora_b": (8, 2),
    }  # fmt: skip
    x = samples(KU_HAR, 5)
    assert torch.equal(whole(*x), base(*x))


def test_the_detour_is_a_product_of_low_rank():
    module = build("lora", KU_HAR, 8, base=MLP, rank=2, scale=3.0)
    p = dict(module.named_parameters())
    torch.manual_seed(3)
    for name in p:
        if "lora" in name:
            p[name].data.normal_()
    (acc, gyro) = samples(KU_HAR, 5)
    h = torch.cat([acc.flatten(1), gyro.flatten(1)], dim=1)
    for layer in ("body.0", "body.2", "head"):
        weight = (
            p[f"{layer}.weight"] + 1.5 * p[f"{layer}.lora_b"] @ p[f"{layer}.lora_a"]
        )
        h = F.linear(h, weight, p[f"{layer}.bias"])
        h = h if layer == "head" else h.relu()
    torch.testing.assert_close(module(acc, gyro), h, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("base", "inputs", "classes"),
    [("cnn", CIFAR10, 10), ("transformer", KU_HAR, 8), ("audio-video", CREMA_D, 4)],
)
def test_any_model_with_dense_layers(base, inputs, classes):
    module = build("lora", inputs, classes, base={"name": base}, rank=2).eval()
    plain = build(base, inputs, classes).eval()
    x = samples(inputs, 3)
    torch.testing.assert_close(module(*x), plain(*x))
    assert sum("lora_a" in name for name, _ in module.named_parameters()) >= 2


class Repeated(nn.Module):
    """One layer under three names, as in some of Hugging Face's models."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.others = nn.ModuleList([self.first, nn.Linear(3, 3), self.first])

    def forward(self, x):
        for layer in (self.first, *self.others):
            x = layer(x)
        return x


def repeated(inputs, num_classes):
    return Repeated()


def test_a_layer_in_several_places_is_adapted_in_all():
    base = {"name": f"{__name__}:repeated"}
    module = build("lora", (), 3, base=base, rank=1, layers=["first"])
    adapters = {n for n, _ in module.named_parameters() if "lora" in n}
    assert adapters == {"first.lora_a", "first.lora_b"}
    p = dict(module.named_parameters())
    p["first.lora_b"].data.normal_()
    w = p["first.weight"] + p["first.lora_b"] @ p["first.lora_a"]
    first, second = (w, p["first.bias"]), (p["others.1.weight"], p["others.1.bias"])
    x = torch.randn(2, 3)
    found = x
    for weights in (first, first, second, first):
        found = F.linear(found, *weights)
    torch.testing.assert_close(module(x), found)


@pytest.mark.parametrize("training", [True, False])
def test_detours_count_in_training_and_evaluation_alike(training):
    """Torch evaluates whole encoder layers at once, past the forward of their parts."""
    options = {"base": {"name": "transformer", "dropout": 0.0}, "rank": 2}
    module = build("lora", KU_HAR, 8, **options).train(training)
    plain = build("transformer", KU_HAR, 8, dropout=0.0).train(training)
    torch.manual_seed(4)
    folded = dict(plain.named_parameters())
    for name, p in module.named_parameters():
        if name.endswith("lora_b"):
            p.data.normal_()
            layer = name.removesuffix(".lora_b")
            a = module.get_parameter(f"{layer}.lora_a")
            folded[f"{layer}.weight"].data.add_(0.5 * p.data @ a.data)
    x = samples(KU_HAR, 4)
    with torch.inference_mode():
        torch.testing.assert_close(module(*x), plain(*x), rtol=1e-4, atol=1e-4)


def test_chosen_layers_and_frozen_parameters():
    module = build(
        "lora",
        KU_HAR,
        8,
        base=MLP,
        layers=["body.*"],
        frozen=["body.*.weight", "head.*"],
    )
    adapted = [n for n, _ in module.named_parameters() if "lora_a" in n]
    assert adapted == ["body.0.lora_a", "body.2.lora_a"]
    split = PartitionedModel.from_patterns(module, shared=["*.lora_*"])
    assert split.shared_names == [
        "body.0.lora_a", "body.0.lora_b", "body.2.lora_a", "body.2.lora_b",
    ]  # fmt: skip
    assert split.personal_names == ["body.0.bias", "body.2.bias"]
    blocks = {row.name: row.block for row in split.table(1)}
    assert blocks["head.weight"] == blocks["body.0.weight"] == "frozen"
    assert len(split.shared) + len(split.personal) == len(split.gradient)
    split.set_trainable("both")
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert trained == {*split.shared_names, *split.personal_names}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base": {}}, "base needs the name of another model"),
        ({"base": {"name": "lora"}}, "base needs the name of another model"),
        ({"base": {"name": "mpl"}}, "did you mean 'mlp'"),
        ({"base": MLP | {"hiden": [3]}}, "did you mean 'hidden'"),
        ({"base": MLP, "rank": 0}, "rank must be 1 or more"),
        ({"base": MLP, "layers": ["heads"]}, "layers 'heads' matches nothing; did you"),
        ({"base": MLP, "frozen": ["hed.*"]}, "frozen 'hed.*' matches nothing"),
    ],
)
def test_what_can_not_be_adapted(options, words):
    with pytest.raises(ConfigError) as caught:
        build("lora", KU_HAR, 8, **options)
    assert words in str(caught.value)


def test_frozen_parameters_stay_and_are_never_sent(toy, tmp_path):
    path = run(
        tmp_path / "run",
        toy["features"],
        model=LORA | {"frozen": ["body.*"]},
        split={"shared": ["*.lora_*"]},
        algorithm=FEDAPM,
    )
    shared = load_file(path / "final/shared.safetensors")
    assert all("lora" in name for name in shared)
    config = validate(
        experiment(toy["features"], model=LORA, split={"shared": ["*.lora_*"]}), "test"
    )
    (group,) = open_context(config, Serial()).groups.members
    start = {n: p.clone() for n, p in group.model.module.named_parameters()}
    for i in (0, 3):
        named = dict(load_client_model(path, i).named_parameters())
        for name in start:
            assert torch.equal(named[name], start[name]) == name.startswith("body") or (
                "lora" in name
            )
        assert not torch.equal(named["head.lora_b"], start["head.lora_b"])
    text = (path / "split.csv").read_text()
    assert text.count("frozen") == 4


# By position --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "personal"),
    [
        ({"first": 1}, ["body.0"]),
        ({"last": 1}, ["head"]),
        ({"first": 1, "last": 1}, ["body.0", "head"]),
        ({"last": 2}, ["body.2", "head"]),
    ],
)
def test_layers_at_the_ends_are_personal(toy, tmp_path, place, personal):
    changes = {"model": MLP, "rounds": 2}
    by_name = {"personal": [f"{layer}.*" for layer in personal]}
    paths = [
        run(tmp_path / str(k), toy["features"], **changes, split=split)
        for k, split in enumerate((place, by_name))
    ]
    assert digest_of(paths[0]) == digest_of(paths[1])


def test_a_position_beyond_the_model(toy):
    config = experiment(toy["features"], model=MLP, split={"first": 2, "last": 2})
    with pytest.raises(ConfigError, match="more than the model's 3 layers"):
        open_context(validate(config, "test"), Serial())
    for split in ({"first": 0}, {"first": 1, "personal": ["head.*"]}):
        with pytest.raises(ConfigError):
            validate(experiment(toy["features"], split=split), "test")


# Models that start from a file --------------------------------------------------------


def test_a_run_starts_from_another_ones_model(toy, tmp_path):
    """FedAvg's model, then adapters on it: each client's first model is that one."""
    first = run(
        tmp_path / "first",
        toy["features"],
        model=MLP,
        split=None,
        algorithm={"name": "fedavg"} | FEDSIM,
    )
    shared = load_file(first / "final/shared.safetensors")
    assert set(shared) == {
        f"{layer}.{kind}"
        for layer in ("body.0", "body.2", "head")
        for kind in ("weight", "bias")
    }
    changes = {
        "model": LORA | {"frozen": ["body.*"]},
        "split": {"shared": ["*.lora_*"]},
        "initial_model": str(first / "final/shared.safetensors"),
    }
    second = run(tmp_path / "second", toy["features"], **changes)
    losses = [
        json.loads(line)["loss"]
        for path, at in ((first, -1), (second, 0))
        for line in [(path / "rounds.jsonl").read_text().splitlines()[at]]
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    named = dict(load_client_model(second, 2).named_parameters())
    assert torch.equal(named["body.0.weight"].detach(), shared["body.0.weight"])
    assert digest_of(second) != digest_of(
        run(tmp_path / "third", toy["features"], **changes | {"initial_model": None})
    )


def resume(path, data, **changes):
    config = validate(experiment(data, **changes), "test")
    return train(Serial(), config, directory=path, resume=True, progress="none")


def test_a_run_does_not_continue_from_another_file(toy, tmp_path):
    torch.manual_seed(5)
    save_file({"head.bias": torch.randn(3)}, tmp_path / "a.safetensors")
    changes = {"model": MLP, "initial_model": str(tmp_path / "a.safetensors")}
    run(tmp_path / "run", toy["features"], **changes)
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    moved = changes | {"initial_model": str(tmp_path / "b.safetensors")}
    assert resume(tmp_path / "run", toy["features"], **moved, rounds=4) == 0
    save_file({"head.bias": torch.randn(3)}, tmp_path / "b.safetensors")
    with pytest.raises(
        ConfigError, match=r"another configuration:\s+initial_model_sha256"
    ):
        resume(tmp_path / "run", toy["features"], **moved, rounds=5)
    with pytest.raises(
        ConfigError, match=r"another configuration:\s+initial_model_sha256"
    ):
        resume(tmp_path / "run", toy["features"], model=MLP, rounds=5)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"head.bais": torch.zeros(3)},
            "'head.bais', which no model has; did you mean",
        ),
        ({"head.bias": torch.zeros(4)}, "'head.bias' has the shape (4,) in"),
        (None, "cannot read"),
    ],
)
def test_files_that_do_not_fit(toy, tmp_path, tensors, words):
    path = tmp_path / "start.safetensors"
    if tensors is None:
        path.write_bytes(b"nothing of the kind")
    else:
        save_file(tensors, path)
    for where in (path, *([tmp_path / "no"] if tensors is None else [])):
        config = experiment(toy["features"], model=MLP, initial_model=str(where))
        with pytest.raises(ConfigError) as caught:
            open_context(validate(config, "test"), Serial())
        assert words in str(caught.value)
