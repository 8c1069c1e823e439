"""Steps taken together are those that clients take one by one."""

from functools import partial

import pytest
import torch

from fedapm_mpi.optim import hooks, stacked
from fedapm_mpi.optim.local import Lane, LocalBudget, LocalPhase, minimize
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.optim.solver import BlockRules, LocalSolver, SolverRules

LENGTHS = {"shared": 5, "personal": 3}
PADDED = 8


class Client:
    """A quadratic loss of its own, in one mini-batch for each of its steps."""

    def __init__(self, lane, steps, optimizer):
        draw = torch.Generator().manual_seed(lane)
        self.lane, self.steps = lane, steps
        rules = BlockRules(optimizer)
        self.solver = LocalSolver(SolverRules(rules, rules))
        start = torch.randn(8, generator=draw).double()
        self.shared, self.personal = start[:5].clone(), start[5:].clone()
        self.aim = torch.randn(8, generator=draw).double()

    def batches(self, phase, budget, size):
        yield from range(self.steps)

    def num_batches(self, budget, size):
        return self.steps

    def gradient(self, block, batch):
        at = torch.cat([self.shared, self.personal])
        return (at - self.aim) * (1 + batch)


class Stacked(Client, Lane):
    """The same, in rows of a stack."""

    def __init__(self, matrices, lane, steps, optimizer):
        super().__init__(lane, steps, optimizer)
        for name, length in LENGTHS.items():
            row = matrices[name][0][lane, :length]
            row.copy_(getattr(self, name))
            setattr(self, name, row)

    def run(self, phase):
        self.phase = phase


class Gradients:
    def __init__(self, matrices):
        self.matrices = matrices

    def compute(self, phases, batches):
        for phase, batch in zip(phases, batches, strict=True):
            client = phase.problem
            whole = client.gradient("both", batch)
            for name, part in zip(LENGTHS, (whole[:5], whole[5:]), strict=True):
                self.matrices[name][1][client.lane, : len(part)] = part
        return [None] * len(phases)

    def lane(self, phase):
        return phase.problem.lane

    def block(self, name):
        return self.matrices[name]


def start(client, **more):
    """Call `minimize`; of a client in a stack, the phase is there then."""
    centre = client.aim[:5] * 2
    hook = partial(hooks.pull, centre=centre, strength=0.3)
    steps = {"lr": 0.1, "lr_personal": 0.05, "weight_decay": 0.01} | more
    return minimize(
        client, "both", LocalBudget(epochs=1), batch_size=1, gradient_hook=hook, **steps
    )


@pytest.mark.parametrize("name", [*optimizers.builtin_names(), "row by row"])
@pytest.mark.parametrize("steps", [(4, 4, 4), (2, 5, 3), (4, 2, 5)])
def test_rows_of_a_matrix_are_stepped_as_vectors(name, steps, monkeypatch):
    """Clients that end early leave a gap between others."""
    if name == "row by row":
        monkeypatch.setattr(stacked, "_in_matrices", lambda phase: False)
    optimizer = optimizers.get("adam" if name == "row by row" else name)()
    matrices = {
        key: [torch.zeros(3, PADDED).double() for _ in range(2)] for key in LENGTHS
    }
    together = [Stacked(matrices, k, n, optimizer) for k, n in enumerate(steps)]
    for client in together:
        start(client)
    phases = [client.phase for client in together]
    assert stacked.run_together(phases, Gradients(matrices)) == [None] * 3
    for k, n in enumerate(steps):
        alone = Client(k, n, optimizer)
        assert start(alone) == n == phases[k].end()
        assert torch.allclose(alone.shared, together[k].shared, rtol=1e-12, atol=1e-12)
        assert torch.allclose(alone.personal, together[k].personal, rtol=1e-12)


@pytest.mark.parametrize("key", ["lr", "lr_personal", "weight_decay"])
def test_clients_with_other_step_sizes_are_stepped_apart(key):
    optimizer = optimizers.get("adam")()
    matrices = {
        key: [torch.zeros(3, PADDED).double() for _ in range(2)] for key in LENGTHS
    }
    clients = [Stacked(matrices, k, 3, optimizer) for k in range(3)]
    alone = [Client(k, 3, optimizer) for k in range(3)]
    for group in (clients, alone):
        for client in group:
            start(client, **{key: 0.02 * (1 + client.lane)})
    stacked.run_together([one.phase for one in clients], Gradients(matrices))
    for one, other in zip(clients, alone, strict=True):
        assert torch.allclose(one.shared, other.shared, rtol=1e-12)
        assert torch.allclose(one.personal, other.personal, rtol=1e-12)


def test_clients_with_other_penalties_are_stepped_apart():
    def phase(strength):
        found = Stacked(
            {key: [torch.zeros(1, PADDED).double()] * 2 for key in LENGTHS},
            0, 1, optimizers.get("adam")(),
        )  # fmt: skip
        hook = partial(hooks.pull, centre=found.aim[:5], strength=strength)
        minimize(
            found, "shared", LocalBudget(epochs=1), batch_size=1, lr=0.1,
            gradient_hook=hook,
        )  # fmt: skip
        return stacked._settings(found.phase)

    assert phase(0.1) == phase(0.1)
    assert phase(0.1) != phase(0.2)


@hooks.elementwise
def scale(gradient, vector, *, by):
    gradient.mul_(by if isinstance(by, torch.Tensor) else by[0])


@pytest.mark.parametrize("by", [torch.tensor(2.0), [2.0]])
def test_a_hook_bound_to_anything_else_is_called_for_each(by):
    """Neither a number nor a vector like the block."""
    optimizer = optimizers.get("sgd")()
    matrices = {
        key: [torch.zeros(2, PADDED).double() for _ in range(2)] for key in LENGTHS
    }
    clients = [Stacked(matrices, k, 3, optimizer) for k in range(2)]
    alone = [Client(k, 3, optimizer) for k in range(2)]
    for client in (*clients, *alone):
        minimize(
            client, "both", LocalBudget(epochs=1), batch_size=1, lr=0.1,
            gradient_hook=partial(scale, by=by),
        )  # fmt: skip
    stacked.run_together([one.phase for one in clients], Gradients(matrices))
    for one, other in zip(clients, alone, strict=True):
        assert torch.allclose(one.shared, other.shared)


def test_what_a_hook_reads_may_change_after_a_mini_batch():
    centre = torch.zeros(2, 5).double()
    optimizer = optimizers.get("sgd")()
    matrices = {
        key: [torch.zeros(2, PADDED).double() for _ in range(2)] for key in LENGTHS
    }
    clients = [Stacked(matrices, k, 3, optimizer) for k in range(2)]
    alone = [Client(k, 3, optimizer) for k in range(2)]
    for group in (clients, alone):
        centre.zero_()
        for k, client in enumerate(group):
            hook = partial(hooks.pull, centre=centre[k], strength=0.5)
            minimize(
                client, "both", LocalBudget(epochs=1), batch_size=1, lr=0.1,
                gradient_hook=hook, after_batch=partial(centre[k].add_, 1),
            )  # fmt: skip
        if group is clients:
            stacked.run_together([one.phase for one in clients], Gradients(matrices))
    for one, other in zip(clients, alone, strict=True):
        assert torch.allclose(one.shared, other.shared)


@pytest.mark.parametrize("failing", ["next", "hook", "after"])
def test_an_error_is_of_its_client_alone(failing):
    optimizer = optimizers.get("sgd")()
    matrices = {
        key: [torch.zeros(3, PADDED).double() for _ in range(2)] for key in LENGTHS
    }
    clients = [Stacked(matrices, k, 3, optimizer) for k in range(3)]

    def fail(*args):
        raise ValueError("mine")

    def batches(phase, budget, size):
        yield 0
        fail()

    for k, client in enumerate(clients):
        more = {}
        if k == 1 and failing == "next":
            client.batches = batches
        if k == 1 and failing == "after":
            more["after_batch"] = fail
        if failing == "hook":
            more["personal_hook"] = fail if k == 1 else None
        start(client, **more)
    phases: list[LocalPhase] = [one.phase for one in clients]
    errors = stacked.run_together(phases, Gradients(matrices))
    assert isinstance(errors[1], ValueError)
    if failing != "hook":  # which of a matrix's clients a hook is of is not known
        assert errors[0] is errors[2] is None
        assert phases[0].end() == 3
