"""What a phase does not train is computed once in it, and changes no result."""

import pytest
import torch
from torch import nn

from fedapm_mpi.algorithms import LocalBudget
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine import feature_cache as stages
from fedapm_mpi.engine import local_objective as problem_module
from fedapm_mpi.engine.feature_cache import frozen_stages, stages_of
from fedapm_mpi.engine.local_objective import LocalObjective, outputs_of
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.models import models
from fedapm_mpi.models.base import Stage
from fedapm_mpi.tasks.classification import Classification

N, SIZE = 22, 8
IMAGE = InputSpec("image", (3, 8, 8), "float32")
VECTOR = InputSpec("x", (5,), "float32")


def scores(module, samples):
    return outputs_of(module, samples, Classification())


def samples(spec):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, *spec.shape, generator=generator, dtype=torch.float64)
    return Samples((x,), {}, torch.arange(N) % 3)


def sequential(inputs, num_classes, dropout=0.0):
    return nn.Sequential(
        nn.Linear(5, 6), nn.Dropout(dropout), nn.Tanh(), nn.Linear(6, num_classes)
    )


KNOWN = {
    "cnn": (IMAGE, ["fc*"], {}),
    "resnet18": (IMAGE, ["fc*"], {"width": 4, "groups": 2}),
    "mlp": (VECTOR, ["head*"], {"hidden": (6, 7)}),
    "sequential": (VECTOR, ["3.*"], {}),
}


def built(name, dropout=None):
    spec, personal, options = KNOWN[name]
    torch.manual_seed(0)
    if name == "sequential":
        module = sequential((spec,), 3, dropout or 0.0)
    else:
        module = models.get(name)((spec,), 3, **options)
    return PartitionedModel.from_patterns(module.double(), personal=personal), samples(
        spec
    )


def trained(model, own, work, phase="personal", size=SIZE):
    """Take SGD steps; return the parameters and the sum of losses."""
    p = LocalObjective(model, own, seed=3, round_index=0, client=0)
    for batch in p.batches(phase, work, size):
        vector = p.personal if phase == "personal" else p.shared
        vector.sub_(p.gradient(phase, batch), alpha=0.1)
    return torch.cat([p.shared, p.personal]).clone(), p.loss_sum


@pytest.mark.parametrize("work", [LocalBudget(epochs=3), LocalBudget(steps=7)])
@pytest.mark.parametrize("name", KNOWN)
def test_training_is_the_same_as_without(monkeypatch, name, work):
    found, loss = trained(*built(name), work)
    monkeypatch.setattr(problem_module, "frozen_stages", lambda module: ([], []))
    expected, expected_loss = trained(*built(name), work)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert not torch.equal(found, trained(*built(name), LocalBudget(epochs=1))[0])


@pytest.mark.parametrize("name", KNOWN)
def test_a_model_is_its_stages(name):
    model, own = built(name)
    found = stages.forward_stages(stages_of(model.module), own)
    assert torch.equal(found, model.module(*own.inputs))
    used = {
        id(p)
        for s in stages_of(model.module)
        for m in s.modules
        for p in m.parameters()
    }
    assert used == {id(p) for p in model.module.parameters()}


RAGGED = InputSpec("x", (5,), "float32", ragged=True)
ENTERED = {
    "cnn": (IMAGE, {}, 1),
    "resnet18": (IMAGE, {"width": 4, "groups": 2}, 1),
    "mlp": (VECTOR, {}, 1),
    "logistic": (VECTOR, {}, 1),
}


@pytest.mark.parametrize("name", ENTERED)
def test_stages_that_never_change_are_applied_once(name):
    spec, options, count = ENTERED[name]
    torch.manual_seed(0)
    module = models.get(name)((spec,), 3, **options).double()
    own = samples(spec)
    entered = stages.apply_constant_stages(stages.constant_stages(module), own)
    assert entered.stage == count
    torch.testing.assert_close(scores(module, entered), module(*own.inputs))
    index = torch.tensor([3, 0, 7])
    taken = entered.rows(index)
    assert taken.stage == count
    assert torch.equal(scores(module, taken), scores(module, own.rows(index)))
    assert torch.equal(taken.targets, own.targets[index])


def test_what_a_phase_freezes_is_not_left_behind_for_good():
    model, own = built("cnn")
    model.set_trainable("personal")
    assert (
        stages.apply_constant_stages(stages.constant_stages(model.module), own).stage
        == 1
    )


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("phase", ["personal", "shared"])
def test_training_behind_them_gives_the_same_bits(name, phase):
    model, own = built(name)
    expected, _ = trained(model, own, LocalBudget(epochs=2), phase)
    model, own = built(name)
    found, _ = trained(
        model,
        stages.apply_constant_stages(stages.constant_stages(model.module), own),
        LocalBudget(epochs=2),
        phase,
    )
    assert torch.equal(found, expected)


def test_the_padding_of_samples_is_left_behind():
    module = models.get("mlp")((RAGGED,), 3).double()
    lengths = torch.arange(N) % 5 + 1
    own = samples(RAGGED)._replace(lengths={"x": lengths})
    entered = stages.apply_constant_stages(stages.constant_stages(module), own)
    assert entered.lengths == {}
    expected = module(*own.inputs, lengths=own.lengths)
    assert torch.equal(scores(module, entered), expected)
    assert not torch.equal(expected, module(*own.inputs))


def test_samples_stay_as_they_are_where_nothing_is_won():
    for module in (
        nn.Sequential(nn.Linear(5, 3)),
        nn.Sequential(nn.Dropout(0.1), nn.Linear(5, 3)),
        nn.Sequential(nn.ConstantPad1d((0, 5), 0.0), nn.Linear(10, 3)),
        nn.Sequential(Noise(), nn.Linear(5, 3)),
    ):
        assert (
            stages.apply_constant_stages(
                stages.constant_stages(module), samples(VECTOR)
            ).stage
            == 0
        )
    flattens = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(192, 3)).double()
    own = samples(IMAGE)
    entered = stages.apply_constant_stages(stages.constant_stages(flattens), own)
    assert entered.stage == 2
    assert torch.equal(scores(flattens, entered), flattens(*own.inputs))
    empty = own.rows(torch.zeros(0, dtype=torch.int64))
    assert (
        stages.apply_constant_stages(stages.constant_stages(flattens), empty).stage == 0
    )


def passes_of(model, own, work, layer, phase="personal"):
    """Return how many samples go through a layer while a phase is trained."""
    seen = []
    handle = layer.register_forward_hook(lambda m, x, y: seen.append(len(x[0])))
    trained(model, own, work, phase)
    handle.remove()
    return sum(seen)


@pytest.mark.parametrize(
    ("work", "samples_seen"),
    [
        (LocalBudget(epochs=4), N),
        (LocalBudget(epochs=1), N),
        (LocalBudget(steps=9), N),  # of which 9 * 8 are trained on
        (LocalBudget(steps=2), 2 * SIZE),
    ],
)
def test_a_frozen_layer_sees_each_sample_once(work, samples_seen):
    model, own = built("cnn")
    assert passes_of(model, own, work, model.module.conv1) == samples_seen


def test_a_layer_that_is_trained_or_behind_one_sees_all():
    model, own = built("cnn")
    for layer in (model.module.conv1, model.module.fc1):
        assert passes_of(model, own, LocalBudget(epochs=4), layer, "shared") == 4 * N


def test_every_phase_begins_with_what_the_layers_are_then():
    model, own = built("sequential")
    p = LocalObjective(model, own, seed=3, round_index=0, client=0)
    losses = []
    for scale in (1.0, 2.0):
        p.shared.mul_(scale)
        list(p.batches("personal", LocalBudget(epochs=2), 0))
        p.gradient("personal", torch.arange(N))
        losses.append(p.loss_sum)
    first, both = losses
    assert both - first != first


def test_nothing_is_kept_for_a_single_pass(monkeypatch):
    """What was kept for a phase before is not used either."""
    model, own = built("cnn")
    p = LocalObjective(model, own, seed=3, round_index=0, client=0)
    for batch in p.batches("personal", LocalBudget(epochs=2), SIZE):
        p.gradient("personal", batch)
    p.shared.mul_(2)
    monkeypatch.setattr(problem_module, "frozen_features", None)
    batch = next(iter(p.batches("personal", LocalBudget(epochs=1), SIZE)))
    found = p.gradient("personal", batch).clone()
    fresh = LocalObjective(model, own, seed=3, round_index=0, client=0)
    model.set_trainable("personal")
    assert torch.equal(found, fresh.gradient("personal", batch))


def test_an_algorithm_may_ask_for_another_part_than_the_phase_is_for():
    """Then nothing counts as frozen: it may have a focus of its own."""
    model, own = built("cnn")
    p = LocalObjective(model, own, seed=3, round_index=0, client=0)
    batch = next(iter(p.batches("personal", LocalBudget(epochs=2), SIZE)))
    kept = p.gradient("personal", batch).clone()
    model.set_trainable("both")
    both = p.gradient("both", batch).clone()
    fresh = LocalObjective(model, own, seed=3, round_index=0, client=0)
    torch.testing.assert_close(both, fresh.gradient("both", batch))
    assert both[model.block_slice("shared")].any()
    torch.testing.assert_close(kept, both[model.block_slice("personal")])


def test_little_is_kept_of_what_would_be_large(monkeypatch):
    model, own = built("cnn")
    each = 32 * 2 * 2 * 8
    monkeypatch.setattr(stages, "MAX_CACHE_BYTES", N * each)
    assert passes_of(model, own, LocalBudget(epochs=4), model.module.conv1) == N
    monkeypatch.setattr(stages, "MAX_CACHE_BYTES", N * each - 1)
    assert (
        passes_of(model, own, LocalBudget(epochs=4), model.module.conv1) == SIZE + 4 * N
    )


class Last(nn.Module):
    """Takes the last step of what a recurrent layer returns."""

    def forward(self, found):
        return found[0][:, -1]


def test_layers_that_return_no_tensor_or_no_samples(monkeypatch):
    """Their output can't be kept, so that all is done as without."""

    def both(module, spec, names):
        found = []
        for known in (frozen_stages, lambda module: ([], [])):
            monkeypatch.setattr(problem_module, "frozen_stages", known)
            torch.manual_seed(0)
            model = PartitionedModel.from_patterns(module().double(), personal=names)
            found.append(trained(model, samples(spec), LocalBudget(epochs=3))[0])
        return found

    series = InputSpec("x", (4, 5), "float32")
    recurrent = both(
        lambda: nn.Sequential(nn.GRU(5, 6, batch_first=True), Last(), nn.Linear(6, 3)),
        series,
        ["2.*"],
    )
    assert torch.equal(*recurrent)
    pooled = nn.Sequential(nn.MaxPool1d(1, return_indices=True), Last())
    assert (
        stages.apply_constant_stages(
            stages.constant_stages(pooled), samples(series)
        ).stage
        == 0
    )


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Counting(nn.ReLU):
    """Of torch by descent, with a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))


class Own(nn.Module):
    """Vouches for its stages."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def stages(self):
        return [Stage((layer,), layer) for layer in self.layers]


class AnotherMeaning(Own):
    def forward(self, x):
        return super().forward(x)

    def stages(self):
        return ["first", "second"]


class Otherwise(Own):
    def forward(self, x):
        return super().forward(x) * 2


def frozen_count(module, trained_names=("3.",)):
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.removeprefix("layers.").startswith(trained_names))
    module.train()
    return len(frozen_stages(module)[0])


def attention_that_drops():
    """Return a layer whose only dropout is within torch's attention function."""
    layer = nn.TransformerEncoderLayer(6, 2, 4, 0.0, batch_first=True)
    layer.self_attn.dropout = 0.1
    return layer


def layers(second):
    return nn.Linear(5, 6), second, nn.Linear(6, 6), nn.Linear(6, 3)


@pytest.mark.parametrize("kind", [nn.Sequential, Own])
@pytest.mark.parametrize(
    ("second", "count"),
    [
        (nn.ReLU(), 3),
        (nn.Dropout(0.0), 3),
        (nn.Dropout(0.1), 1),
        (nn.BatchNorm1d(6), 1),
        (nn.RReLU(), 1),
        (nn.Sequential(nn.Tanh(), nn.AlphaDropout(0.2)), 1),
        (nn.InstanceNorm1d(6, track_running_stats=True), 1),
        (nn.TransformerEncoderLayer(6, 2, 4, 0.0, batch_first=True), 3),
        (nn.TransformerEncoderLayer(6, 2, 4, 0.1, batch_first=True), 1),
        (nn.TransformerEncoderLayer(6, 2, 4, 0.0), 1),
        (nn.Softmax(dim=-1), 3),
        (nn.Softmax(dim=1), 3),
        (nn.Softmax(dim=0), 1),
        (nn.Softmax(dim=-2), 1),
        (nn.Softmax(), 1),
        (nn.Flatten(), 3),
        (nn.Flatten(0, 1), 1),
        (attention_that_drops(), 1),
    ],
)
def test_stages_that_vary_are_not_kept(kind, second, count):
    assert frozen_count(kind(*layers(second))) == count


def test_who_vouches_for_foreign_layers():
    assert frozen_count(nn.Sequential(*layers(Noise()))) == 1
    assert frozen_count(nn.Sequential(*layers(nn.Sequential(Noise())))) == 1
    assert frozen_count(Own(*layers(Noise()))) == 3
    for kind, count in ((nn.Sequential, 1), (Own, 3)):
        hooked = nn.ReLU()
        hooked.register_forward_hook(lambda module, x, y: y * 2)
        assert frozen_count(kind(*layers(hooked))) == count
        keeps = Counting()
        assert frozen_count(kind(*layers(keeps))) == count
        normed = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
        assert frozen_count(kind(*layers(normed))) == 1
    assert frozen_count(Otherwise(*layers(nn.ReLU()))) == 0
    assert stages_of(nn.Linear(2, 2)) == []
    assert stages_of(AnotherMeaning(*layers(nn.ReLU()))) == []
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        watched = nn.Sequential(*layers(nn.ReLU()))
        getattr(watched, register)(lambda *seen: None)
        assert stages_of(watched) == []


def test_what_is_frozen_in_all():
    module = nn.Sequential(*layers(nn.ReLU()), nn.ReLU())
    assert frozen_count(module, ("nothing",)) == 4
    assert frozen_count(module, ("0.",)) == 0
    assert frozen_count(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), ("1.",)) == 0
