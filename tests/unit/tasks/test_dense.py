"""What tasks with a class for each position have in common."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks import Targets
from fedapm_mpi.tasks.next_token import NextToken
from fedapm_mpi.tasks.segmentation import Segmentation

SHAPES = {NextToken: (5,), Segmentation: (3, 4)}
each_task = pytest.mark.parametrize("kind", SHAPES)
CLASSES = 4


def bound(kind, **options):
    names = tuple("abcd")
    targets = Targets("dense", names, mean=(0.25,) * 4, shape=SHAPES[kind])
    return kind(**options).for_targets(targets)


def drawn(kind, n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    task = bound(kind)
    outputs = torch.randn(n, *task.output_shape(CLASSES), generator=generator).double()
    targets = torch.randint(-1, CLASSES, (n, *SHAPES[kind]), generator=generator)
    targets[2] = -1
    return outputs, targets


def by_class(kind, outputs):
    """In torch's order of axes: classes come second."""
    return outputs.movedim(-1, 1) if kind is NextToken else outputs


@each_task
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignored", [None, 2])
def test_loss_of_a_sample_is_torchs_mean_over_its_positions(kind, smoothing, ignored):
    outputs, targets = drawn(kind)
    task = bound(kind, label_smoothing=smoothing, ignore_index=ignored)
    counted = targets.clone()
    if ignored is not None:
        counted[counted == ignored] = -1
    wanted = [
        cross_entropy(o[None], t[None], ignore_index=-1, label_smoothing=smoothing)
        for o, t in zip(by_class(kind, outputs), counted, strict=True)
    ]
    assert wanted[2].isnan(), "a sample without a class"
    wanted[2] = torch.tensor(0.0).double()
    expected = torch.stack(wanted)
    torch.testing.assert_close(task.sample_losses(outputs, targets), expected)
    torch.testing.assert_close(task.loss(outputs, targets), expected.mean())
    torch.testing.assert_close(task.loss(outputs, targets, "sum"), expected.sum())


@each_task
def test_what_has_no_class_has_no_gradient(kind):
    outputs, targets = drawn(kind)
    outputs.requires_grad_()
    bound(kind).loss(outputs, targets).backward()
    slopes = by_class(kind, outputs.grad).abs().sum(dim=1)
    assert (slopes[targets < 0] == 0).all()
    assert (slopes[targets >= 0] > 0).all()


@each_task
def test_losses_of_several_models_at_once_are_those_of_each(kind):
    outputs, targets = drawn(kind)
    task = bound(kind)
    stacked = torch.func.vmap(lambda o: task.loss(o, targets))(
        torch.stack([outputs, -outputs])
    )
    alone = [task.loss(outputs, targets), task.loss(-outputs, targets)]
    torch.testing.assert_close(stacked, torch.stack(alone))


@each_task
def test_shapes_of_outputs_are_checked(kind):
    task = bound(kind)
    right = (6, *task.output_shape(CLASSES))
    assert task.check_outputs(right, 6) == task.check_outputs(right, 6, CLASSES) == ""
    for wrong in ((5, *right[1:]), right[:-1], (6,)):
        assert "it must be" in task.check_outputs(wrong, 6)
    turned = (6, *right[2:], right[1])
    assert f"here {right}" in task.check_outputs(turned, 6, CLASSES)
    numbers = 1
    for size in right[1:]:
        numbers *= size
    assert task.sample_outputs == numbers


@each_task
def test_a_class_to_ignore_must_be_one(kind):
    with pytest.raises(ConfigError, match=r"ignore_index is 4, .* classes 0 to 3"):
        bound(kind, ignore_index=4)
    one = Targets("dense", ("a",), mean=(1.0,), shape=SHAPES[kind])
    with pytest.raises(ConfigError, match=r"1 class.*needs 2 or more"):
        kind().for_targets(one)
