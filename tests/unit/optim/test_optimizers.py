"""Local optimizers take torch.optim's steps, bit for bit."""

import inspect

import pytest
import torch

from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.optim.optimizers._torch import (
    LONG,
    NOT_OPTIONS,
    TorchOptimizer,
    from_torch,
)
from fedapm_mpi.optim.solver import STEPS_TAKEN, state_layout

TORCH = {
    "adadelta": "Adadelta", "adafactor": "Adafactor", "adagrad": "Adagrad",
    "adam": "Adam", "adamax": "Adamax", "adamw": "AdamW", "asgd": "ASGD",
    "nadam": "NAdam", "radam": "RAdam", "rmsprop": "RMSprop", "rprop": "Rprop",
    "sgd": "SGD",
}  # fmt: skip
OTHER_OPTIONS = {
    "adam": {"betas": (0.8, 0.9), "amsgrad": True, "weight_decay": 0.1},
    "adamw": {"weight_decay": 0.5},
    "adagrad": {"initial_accumulator_value": 0.3, "lr_decay": 0.1},
    "nadam": {"decoupled_weight_decay": True, "weight_decay": 0.1},
    "rmsprop": {"momentum": 0.9, "centered": True},
    "sgd": {"momentum": 0.9, "nesterov": True},
}
CASES = [
    *((name, {}) for name in TORCH),
    *OTHER_OPTIONS.items(),
    ("sgd", {"momentum": 0.5, "dampening": 0.3}),
]
STEPS = 7


def gradients(dtype, size=5):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(STEPS, size, generator=generator, dtype=dtype)


def test_all_of_torchs_are_there_but_those_that_cannot_be():
    """LBFGS needs a closure, SparseAdam sparse gradients, and Muon matrices."""
    found = {
        name
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)
    }
    impossible = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}
    assert found - impossible == set(TORCH.values())
    assert set(optimizers.names()) == set(TORCH)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_steps_are_torchs(name, options, dtype):
    """Also on a view, with a step size that changes, and with a state carried over."""
    ours = optimizers.get(name)(**options)
    wanted = torch.linspace(-1, 1, 5, dtype=dtype)
    reference = getattr(torch.optim, TORCH[name])([wanted], lr=0.1, **options)
    whole = torch.zeros(9, dtype=dtype)
    found = whole[2:7]
    found.copy_(wanted)
    state = ours.init(found)
    for k, gradient in enumerate(gradients(dtype)):
        lr = 0.1 / (1 + k)
        if k == STEPS // 2:  # as after a checkpoint
            state = {key: value.clone() for key, value in state.items()}
        wanted.grad = gradient.clone()
        reference.param_groups[0]["lr"] = lr
        reference.step()
        ours.step(found, gradient.clone(), state, lr)
        assert torch.equal(found, wanted), f"step {k}"
    assert not whole[:2].any()
    assert not whole[7:].any()
    assert found.grad is None


def test_one_instance_serves_several_blocks_in_turn():
    ours = optimizers.get("adam")()
    blocks = [torch.zeros(5), torch.zeros(5)]
    states = [ours.init(block) for block in blocks]
    for gradient in gradients(torch.float32):
        for block, state in zip(blocks, states, strict=True):
            ours.step(block, gradient.clone(), state, 0.1)
    assert torch.equal(*blocks)
    assert blocks[0].any()
    assert states[0]["exp_avg"] is not states[1]["exp_avg"]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_layout_of_a_state_is_that_after_a_step(name, options):
    ours = optimizers.get(name)(**options)
    block = torch.ones(5, dtype=torch.float64)
    layout = state_layout(ours, block)
    assert torch.equal(block, torch.ones(5, dtype=torch.float64))
    state = ours.init(block)
    ours.step(block, torch.ones_like(block), state, 0.1)
    assert layout.pop(STEPS_TAKEN).dtype == torch.int64
    shapes = {key: (value.shape, value.dtype) for key, value in state.items()}
    assert {k: (v.shape, v.dtype) for k, v in layout.items()} == shapes
    assert not any(bool(value.any()) for value in layout.values())


@pytest.mark.parametrize("name", sorted(TORCH))
def test_options_are_those_of_the_signature(name):
    options = set(inspect.signature(optimizers.get(name)).parameters)
    theirs = inspect.signature(getattr(torch.optim, TORCH[name])).parameters
    # L2 decay of plain SGD is the algorithms' option weight_decay.
    left_out = {*NOT_OPTIONS, *(["weight_decay"] if name == "sgd" else [])}
    assert options == set(theirs) - left_out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LBFGS", "LBFGS needs a closure"),
        ("SparseAdam", "SparseAdam cannot step on a flat vector"),
        ("Muon", "Muon|2D"),
    ],
)
def test_a_class_that_cannot_step_on_a_flat_vector_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        from_torch(getattr(torch.optim, name))()


def test_a_class_of_torchs_kind_is_found_by_module_and_name():
    made = optimizers.get("torch.optim:Adam")(betas=(0.5, 0.6))
    assert isinstance(made, TorchOptimizer)
    with pytest.raises(ValueError, match="Invalid beta"):
        optimizers.get("torch.optim:Adam")(betas=(2.0, 0.6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dampening": 0.1}, "no effect without momentum"),
        ({"nesterov": True}, "no effect without momentum"),
        ({"momentum": 0.1, "nesterov": True, "dampening": 0.1}, "dampening 0"),
    ],
)
def test_options_of_sgd_that_do_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        optimizers.get("sgd")(**options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adadelta", {}),
        ("adam", {}),
        ("adam", {"amsgrad": True, "weight_decay": 0.1}),
        ("adamw", {}),
        ("rprop", {}),
    ],
)
def test_long_vectors_take_the_same_steps_with_fewer_temporaries(name, options, dtype):
    """As torch.optim does without being asked for another implementation."""
    generator = torch.Generator().manual_seed(1)
    wanted = torch.randn(LONG, generator=generator, dtype=dtype)
    found, made = wanted.clone(), optimizers.get(name)(**options)
    state = made.init(found)
    reference = getattr(torch.optim, TORCH[name])([wanted], lr=0.1, **options)
    assert reference.param_groups[0]["foreach"] is None
    for _ in range(5):
        gradient = torch.randn(LONG, generator=generator, dtype=dtype)
        wanted.grad = gradient.clone()
        reference.step()
        made.step(found, gradient, state, 0.1)
        assert made._optimizer.param_groups[0]["foreach"] is True
        assert torch.equal(found, wanted)
    for key, value in reference.state[wanted].items():
        assert torch.equal(torch.as_tensor(state[key]), torch.as_tensor(value))
    short = torch.zeros(3, dtype=dtype)
    made.step(short, torch.ones(3, dtype=dtype), made.init(short), 0.1)
    assert made._optimizer.param_groups[0]["foreach"] is None
