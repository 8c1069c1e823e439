from itertools import chain

import pytest
import torch
from torch import nn

from fedapm_mpi.algorithms import LocalBudget
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import TrainingError


def samples(n: int = 10) -> Samples:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 4, generator=generator)
    return Samples((x,), {}, torch.arange(n) % 3)


def problem(n: int = 10, *, round_index: int = 0, client: int = 0, dropout=0.0):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Dropout(dropout), nn.Linear(6, 3))
    model = PartitionedModel.from_patterns(module, personal=["2.*"])
    return LocalObjective(
        model, samples(n), seed=3, round_index=round_index, client=client
    )


def rows(
    p: LocalObjective, work: LocalBudget, size: int, phase="shared"
) -> list[list[int]]:
    return [batch.tolist() for batch in p.batches(phase, work, size)]


def test_epochs_go_over_every_sample_and_keep_the_short_batch():
    batches = rows(problem(), LocalBudget(epochs=2), 4)
    assert [len(b) for b in batches] == [4, 4, 2] * 2
    assert sorted(chain(*batches[:3])) == list(range(10))
    assert sorted(chain(*batches[3:])) == list(range(10))
    assert batches[:3] != batches[3:]


def test_steps_begin_epochs_as_needed():
    assert [len(b) for b in rows(problem(), LocalBudget(steps=5), 4)] == [4, 4, 2, 4, 4]
    assert rows(problem(), LocalBudget(steps=5), 4)[:3] == rows(
        problem(), LocalBudget(epochs=1), 4
    )


def test_size_zero_is_the_full_batch():
    assert [len(b) for b in rows(problem(), LocalBudget(epochs=3), 0)] == [10, 10, 10]


def test_the_order_depends_on_phase_round_and_client_only():
    first = rows(problem(), LocalBudget(epochs=1), 4)
    assert rows(problem(), LocalBudget(epochs=1), 4) == first
    assert rows(problem(), LocalBudget(epochs=1), 4, "personal") != first
    assert rows(problem(round_index=1), LocalBudget(epochs=1), 4) != first
    assert rows(problem(client=1), LocalBudget(epochs=1), 4) != first


def test_a_second_call_continues_the_stream():
    whole = rows(problem(), LocalBudget(epochs=2), 4)
    p = problem()
    assert (
        rows(p, LocalBudget(epochs=1), 4) + rows(p, LocalBudget(epochs=1), 4) == whole
    )


def test_a_client_without_samples_does_no_step():
    assert rows(problem(0), LocalBudget(epochs=2), 4) == []
    assert rows(problem(0), LocalBudget(steps=2), 4) == []


def test_gradient_is_of_the_mean_loss_in_each_part():
    p = problem()
    batch = torch.tensor([1, 4, 7])
    p.model.set_trainable("both")
    both = p.gradient("both", batch).clone()
    data = samples().rows(batch)
    module = p.model.module
    loss = nn.functional.cross_entropy(module(*data.inputs), data.targets)
    expected = torch.autograd.grad(loss, list(module.parameters()))
    torch.testing.assert_close(both, torch.cat([g.reshape(-1) for g in expected]))
    for part in ("shared", "personal"):
        p.model.set_trainable(part)
        torch.testing.assert_close(
            p.gradient(part, batch), both[p.model.block_slice(part)]
        )


def test_full_gradient_is_that_of_all_samples_without_dropout(monkeypatch):
    monkeypatch.setattr("fedapm_mpi.engine.local_objective.EVALUATION_CHUNK", 3)
    with_dropout, without = problem(dropout=0.9), problem()
    expected = without.gradient("both", torch.arange(10)).clone()
    torch.testing.assert_close(with_dropout.full_gradient("both"), expected)


def test_dropout_is_addressed_by_round_and_client():
    def drawn(**address: int) -> torch.Tensor:
        p = problem(dropout=0.5, **address)
        list(p.batches("joint", LocalBudget(epochs=1), 0))  # sets the phase
        return p.gradient("both", torch.arange(10)).clone()

    assert torch.equal(drawn(), drawn())
    assert not torch.equal(drawn(), drawn(client=1))
    assert not torch.equal(drawn(), drawn(round_index=1))


def test_a_loss_that_is_not_finite_names_client_round_and_phase():
    p = problem(round_index=4, client=7)
    p.shared.fill_(float("nan"))
    (batch,) = p.batches("shared", LocalBudget(epochs=1), 0)
    with pytest.raises(TrainingError, match="client 7, round 5, shared phase"):
        p.gradient("shared", batch)


def test_the_mean_loss_is_of_the_last_phase():
    p = problem()
    for phase in ("personal", "shared"):
        for batch in p.batches(phase, LocalBudget(epochs=1), 4):
            p.gradient(phase, batch)
    assert p.loss_count == 10
    p.model.module.eval()
    whole = nn.functional.cross_entropy(
        p.model.module(samples().inputs[0]), samples().targets
    )
    assert p.loss_sum / p.loss_count == pytest.approx(whole.item(), rel=1e-5)
