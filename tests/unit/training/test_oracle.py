"""The package's training path against a second implementation, parameter by parameter.

What is compared is what a run trains with: `PartitionedModel`, `LocalObjective` and
`FedAPM`, one model for all clients, small batches of which the last is smaller still,
and rounds in which some clients sit out.
"""

from collections import OrderedDict, defaultdict
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from fedapm_mpi.algorithms.base import LocalBudget, RoundInfo
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.optim.schedules import schedules
from fedapm_mpi.optim.solver import BlockRules, LocalSolver, Pace, SolverRules
from tests.support.oracles.fedapm_per_parameter import Options, Oracle, network_loss
from tests.support.oracles.quadratic import KAPPA, Quadratic

ROUNDS = 8
BATCH = 4
SIZES = (7, 12, 3, 9, 17, 4)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}

SPLITS = {
    "head": ["head.*"],
    "front": ["front.*"],
    "biases": ["*.bias"],
    "nothing": [],
    "all": ["*"],
}
EMPTY = {("nothing", "personal"), ("all", "shared")}
"""Split and phase that has nothing to train, and takes no step."""
CASES = {
    "as the code does it": (
        {"weight_decay": 0.01},
        {"personal_work": LocalBudget(epochs=2), "shared_work": LocalBudget(epochs=2)},
    ),
    "as the paper does it": (
        {"v_step_at": "local", "alpha_in_v_step": False, "lr_personal": 0.1},
        {"personal_work": LocalBudget(epochs=1), "shared_work": LocalBudget(epochs=3)},
    ),
    "steps over epochs": (
        {"v_step_at": "local", "u_init": "local", "weight_decay": 0.05, "rho": 0.3},
        {"personal_work": LocalBudget(steps=7), "shared_work": LocalBudget(steps=2)},
    ),
    "local start": (
        {"u_init": "local", "sigma": 0.2, "lr_shared": 0.3},
        {"personal_work": LocalBudget(steps=1), "shared_work": LocalBudget(epochs=1)},
    ),
}
COMMON = {
    "rho": 0.1,
    "sigma": 0.01,
    "lr_personal": 0.5,
    "lr_shared": 0.5,
}
ORACLES_COMMON = {key: COMMON[key] for key in COMMON if key != "units"}
"""The oracle knows the weighted form alone."""


class Recording(LocalObjective):
    """A client's problem that keeps a record of the rows it trained on."""

    rows: dict

    def batches(self, phase, work, size):
        for batch in super().batches(phase, work, size):
            self.rows[phase].append(batch.tolist())
            yield batch


class Package:
    """A run of the package without its communicator: state by state in one process."""

    def __init__(self, module, personal, clients, alpha, algorithm, rules=None):
        self.model = PartitionedModel.from_patterns(module, personal=personal)
        self.algorithm, self.alpha, self.rules = algorithm, alpha, rules
        self.samples = [Samples((x,), {}, y) for x, y in clients]
        u, v = self.model.shared.clone(), self.model.personal.clone()
        self.clients = [algorithm.new_client(u.clone(), v.clone()) for _ in alpha]
        self.server = u.double()[None].clone()
        self.rows = {}

    def round(self, index, participants):
        broadcast = self.server.to(self.model.dtype)
        total = torch.zeros_like(self.server)
        for i in participants:
            self.model.shared.fill_(torch.nan)
            self.model.personal.fill_(torch.nan)
            problem = Recording(
                self.model, self.samples[i], seed=5, round_index=index, client=i,
                solver=LocalSolver(self.rules, index),
            )  # fmt: skip
            problem.rows = self.rows[i] = defaultdict(list)
            total += self.algorithm.client_step(
                broadcast.clone(), self.clients[i], problem, self.alpha[i]
            )
        weight = sum(self.alpha[i] for i in participants)
        facts = RoundInfo(index, len(self.alpha), len(participants), weight)
        self.algorithm.server_step(self.server, total, facts)

    def gap(self, oracle):
        """Return the largest difference of any number from the oracle's."""
        model = self.model
        pairs = [(self.server[0], flat(oracle.server, model.shared_names))]
        for i, client in enumerate(self.clients):
            pairs += [
                (client["shared"], flat(oracle.u[i], model.shared_names)),
                (client["personal"], flat(oracle.v[i], model.personal_names)),
                (client["dual"], flat(oracle.pi[i], model.shared_names)),
            ]
        # Of a tensor, whose maximum is NaN where any entry is; not so Python's max.
        return torch.cat([(ours - theirs).abs() for ours, theirs in pairs]).max().item()


def flat(named, names):
    assert set(named) == set(names)
    parts = [named[name].reshape(-1) for name in names]
    return torch.cat(parts) if parts else torch.zeros(0)


def steps_asked_for(work, n):
    return work.steps or work.epochs * -(-n // BATCH)


def network(dtype):
    torch.manual_seed(2)
    layers = OrderedDict(front=nn.Linear(5, 8), relu=nn.ReLU(), head=nn.Linear(8, 3))
    return nn.Sequential(layers).to(dtype)


def client_data(dtype):
    rng = np.random.default_rng(8)
    return [
        (
            torch.tensor(rng.normal(size=(n, 5)) + rng.normal(size=5)).to(dtype),
            torch.tensor(rng.integers(3, size=n)),
        )
        for n in SIZES
    ]


def side_by_side(
    personal,
    dtype,
    by_samples,
    participants,
    options,
    work,
    lie=None,
    rules=None,
    units="weighted",
):
    """Run both for some rounds; yield their gap after each, and the rows used.

    `lie` are options that the oracle has instead of, or besides, those of the package;
    `rules` is how the package's clients step.
    """
    alpha = [n / sum(SIZES) if by_samples else 1 / len(SIZES) for n in SIZES]
    module, clients = network(dtype), client_data(dtype)
    initial = {name: p.detach().clone() for name, p in module.named_parameters()}
    loss = network_loss(clients)
    algorithm = FedAPM(units=units, batch_size=BATCH, **COMMON | options, **work)
    package = Package(module, personal, clients, alpha, algorithm, rules)
    oracle = Oracle(
        Options(**ORACLES_COMMON | options | (lie or {})),
        initial,
        package.model.personal_names,
        alpha if units == "weighted" else [1.0] * len(alpha),
        loss,
        None if units == "weighted" else alpha,
    )
    rng = np.random.default_rng(1)
    for index in range(ROUNDS):
        chosen = sorted(rng.permutation(len(SIZES))[:participants].tolist())
        package.round(index, chosen)
        oracle.round(chosen, lambda i, phase: package.rows[i][phase])
        yield package.gap(oracle), {i: package.rows[i] for i in chosen}, oracle


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("options", "work"), CASES.values(), ids=CASES)
@pytest.mark.parametrize(("by_samples", "participants"), [(False, 6), (True, 3)])
def test_package_agrees_with_the_oracle(
    split, dtype, options, work, by_samples, participants
):
    personal = SPLITS[split]
    gaps = []
    for gap, rows, _ in side_by_side(
        personal, dtype, by_samples, participants, options, work
    ):
        gaps.append(gap)
        for i, phases in rows.items():
            for phase in ("personal", "shared"):
                steps = steps_asked_for(work[f"{phase}_work"], SIZES[i])
                empty = (split, phase) in EMPTY
                assert len(phases[phase]) == (0 if empty else steps)
    assert len(gaps) == ROUNDS
    assert np.max(gaps) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("case", ["as the code does it", "steps over epochs"])
def test_in_units_of_a_clients_own_loss_it_agrees_too(dtype, case):
    """Local problems without weights, and the server's mean by weight."""
    options, work = CASES[case]
    options = options | {"rho": 0.5, "lr_personal": 0.1, "lr_shared": 0.1}
    both = (SPLITS["head"], dtype, True, 3, options, work)
    gaps = [gap for gap, _, _ in side_by_side(*both, units="client")]
    assert len(gaps) == ROUNDS
    assert np.max(gaps) < TOLERANCE[dtype]


@pytest.mark.parametrize(
    "lie",
    [
        {"rho": 0.11},
        {"sigma": 0.02},
        {"lr_personal": 0.49},
        {"lr_shared": 0.49},
        {"weight_decay": 0.02},
        {"v_step_at": "local"},
        {"u_init": "local"},
        {"alpha_in_v_step": False},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_oracle_with_one_other_option_disagrees(lie):
    """The test above can fail, and no option of either side is ignored."""
    options, work = CASES["as the code does it"]
    rounds = side_by_side(SPLITS["head"], torch.float64, True, 3, options, work, lie)
    assert max(gap for gap, _, _ in rounds) > 1e-4


def cosine(t):
    """Return 0.05 + 0.95 (1 + cos(pi t/T))/2 after two rounds of warm-up."""
    if t < 2:
        return (t + 1) / 3
    return 0.05 + 0.95 * (1 + np.cos(np.pi * (t - 2) / (ROUNDS - 2))) / 2


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize(("by_samples", "participants"), [(False, 6), (True, 3)])
def test_adam_and_a_cosine_agree_with_the_oracle(dtype, by_samples, participants):
    """An epsilon above the rounding of float32 keeps the steps well conditioned."""
    betas, epsilon = (0.9, 0.99), 1e-3
    adam = optimizers.get("adam")(betas=betas, eps=epsilon)
    pace = Pace(schedules.get("cosine")(final=0.05), rounds=ROUNDS, warmup=2)
    rules = SolverRules(BlockRules(adam, pace), BlockRules(adam, pace))
    options, work = CASES["as the code does it"]
    options = options | {"lr_personal": 0.008, "lr_shared": 0.008}
    also = {"adam": (*betas, epsilon), "factor": cosine}
    both = (SPLITS["head"], dtype, by_samples, participants, options, work)
    gaps = [gap for gap, _, _ in side_by_side(*both, also, rules)]
    assert len(gaps) == ROUNDS
    assert np.max(gaps) < TOLERANCE[dtype]
    for lie in ({"adam": None}, {"factor": None}, {"adam": (0.9, 0.98, epsilon)}):
        rounds = side_by_side(*both, also | lie, rules)
        assert max(gap for gap, _, _ in rounds) > 1e-4, "the control"


def test_shared_phase_ends_with_the_first_epoch_that_meets_the_tolerance():
    """Over all samples, with weight decay; the tolerance shrinks when a client works.

    A copy of the oracle, given the same batches but the last epoch, misses it.
    """
    xi, decay, most = 4e-3, 0.9, 300
    options = {"weight_decay": 0.05, "v_step_at": "local"}
    work = {
        "personal_work": LocalBudget(epochs=1),
        "shared_work": LocalBudget(xi=xi, decay=decay, max_epochs=most),
    }
    taken, epochs, before = [0] * len(SIZES), [], None
    for gap, rows, oracle in side_by_side(
        SPLITS["head"], torch.float64, True, 3, options | {"lr_shared": 0.1}, work
    ):
        assert gap < 1e-12
        for i, phases in rows.items():
            taken[i] += 1
            everything = range(SIZES[i])
            assert oracle.missed(i, everything) <= xi * decay ** taken[i]
            epochs.append(len(phases["shared"]) // -(-SIZES[i] // BATCH))
            assert epochs[-1] < most
            if before is not None and epochs[-1] > 1:
                cut = -(-SIZES[i] // BATCH) * (epochs[-1] - 1)
                shorter = deepcopy(before)
                given = {
                    "personal": phases["personal"],
                    "shared": phases["shared"][:cut],
                }
                shorter.round([i], lambda _, phase, given=given: given[phase])
                assert shorter.missed(i, everything) > xi * decay ** taken[i]
        before = deepcopy(oracle)
    assert max(epochs) > 3


def test_both_learn_and_the_clients_differ():
    """Agreement on nothing would be cheap: what is compared has moved far."""
    options, work = CASES["as the code does it"]
    rounds = side_by_side(SPLITS["head"], torch.float64, False, 3, options, work)
    oracle = [oracle for _, _, oracle in rounds][-1]
    start = {name: p.detach() for name, p in network(torch.float64).named_parameters()}
    for name, value in oracle.server.items():
        assert (value - start[name]).norm() > 0.1
    spread = torch.stack([v["head.weight"] for v in oracle.v]).std(0)
    assert spread.mean() > 0.05
    assert max(float(pi["front.weight"].norm()) for pi in oracle.pi) > 0.01


def test_batches_are_permutations_with_a_smaller_last_one():
    options, work = CASES["as the code does it"]
    rounds = side_by_side(SPLITS["head"], torch.float64, False, 6, options, work)
    seen = set()
    for _, rows, _ in rounds:
        for i, phases in rows.items():
            n = SIZES[i]
            sizes = [BATCH] * (n // BATCH) + ([n % BATCH] if n % BATCH else [])
            assert set(phases) == {"personal", "shared"}
            for batches in phases.values():
                assert [len(batch) for batch in batches] == sizes * 2
                order = [row for batch in batches for row in batch]
                assert sorted(order[:n]) == sorted(order[n:]) == list(range(n))
                seen.add(tuple(order))
    # Twelve rows in two epochs and two phases, 20 rounds: no order comes twice.
    assert sum(len(order) == 2 * SIZES[1] for order in seen) == 2 * ROUNDS


@pytest.mark.parametrize("v_step_at", ["local", "global"])
def test_oracle_itself_finds_the_joint_minimiser(v_step_at):
    """On losses whose minimiser is known; the package has no part in this test."""
    weights = (0.05, 0.1, 0.1, 0.2, 0.25, 0.3)
    quadratic = Quadratic(weights)

    def loss(parameters, i, rows):
        v, u = parameters["v"], parameters["u"]
        residual = quadratic.a[i] @ v + quadratic.b[i] @ u - quadratic.c[i]
        return 0.5 * (residual @ residual + KAPPA * (v @ v + u @ u))

    options = Options(
        rho=0.1, sigma=0.01, lr_personal=1.5, lr_shared=1.5, v_step_at=v_step_at
    )
    initial = {"v": quadratic.start_v, "u": quadratic.start_u}
    oracle = Oracle(options, initial, ["v"], weights, loss)
    for _ in range(200):
        oracle.round(range(6), lambda i, phase: [[0]] * 5)
    v, u = quadratic.minimiser()
    assert (oracle.server["u"] - u).abs().max() < 1e-3
    found = torch.stack([client["v"] for client in oracle.v])
    assert (found - v).abs().max() < 1e-3
