"""The published CIFAR-10 protocol against the authors' trainer, written out."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.paper import cifar_official as official
from fedapm_mpi.algorithms.base import LocalBudget, RoundInfo
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.cnn import CNN
from fedapm_mpi.utils.rng import generator

M, N, SEED, BATCH, EPOCHS, LR, DECAY, RHO, SIGMA, MU = (
    5, 7, 11, 3, 2, 0.4, 0.05, 0.3, 0.2, 0.1,
)  # fmt: skip
CHOSEN = [[0, 2, 3], [1, 2, 4], [2, 3, 4]]
CONVS = ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")
CONV_SIZE = (2 * 9 + 2) + (2 * 3 * 9 + 3)
METHODS = {
    "FedAPM": {"rho": RHO, "sigma": SIGMA},
    "FedAlt": {},
    "FedSim": {},
    "FedAvg": {},
    "FedProx": {"mu": MU},
}


def make(name, **changes):
    options = {
        "lr": LR,
        "batch_size": BATCH,
        "work": LocalBudget(epochs=EPOCHS),
        "weight_decay": DECAY,
        "conv_size": CONV_SIZE,
    }
    return getattr(official, name)(**options | METHODS[name] | changes)


def network():
    torch.manual_seed(2)
    return CNN((1, 4, 4), False, 3, channels=(2, 3), hidden=4).double()


def data(client):
    generator = torch.Generator().manual_seed(client)
    x = torch.randn(N, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x, (torch.arange(N) + client) % 3


class Package:
    """The algorithm in the package's own parts, one round at a time."""

    def __init__(self, algorithm, wrap=lambda problem: problem):
        self.algorithm = algorithm
        self.model = PartitionedModel(network(), set())
        self.wrap = wrap
        start, nothing = self.model.shared.clone(), torch.zeros(0)
        self.server = start.clone()[None]
        self.clients = [algorithm.new_client(start, nothing) for _ in range(M)]
        self.index = 0

    def round(self, chosen):
        total, broadcast = torch.zeros_like(self.server), self.server.clone()
        for i in chosen:
            self.model.shared.fill_(torch.nan)
            x, y = data(i)
            problem = LocalObjective(
                self.model, Samples((x,), {}, y),
                seed=SEED, round_index=self.index, client=i,
            )  # fmt: skip
            total += self.algorithm.client_step(
                broadcast, self.clients[i], self.wrap(problem), 1 / M
            )
        facts = RoundInfo(self.index, M, len(chosen), len(chosen) / M)
        self.algorithm.server_step(self.server, total, facts)
        self.index += 1


class Trainer:
    """The authors' trainer: whole networks, state dicts, and a mean over all clients.

    The optimiser's "shared" tensors are the first four, the loader's the last four.
    """

    def __init__(self, method):
        self.method = method
        self.server = network().state_dict()
        self.nets = [network() for _ in range(M)]
        self.duals = [
            {k: torch.zeros_like(x) for k, x in self.server.items()} for _ in range(M)
        ]

    def round(self, t, chosen):
        for i in chosen:
            self.participate(t, i)
        for key in self.server:
            votes = [
                net.state_dict()[key]
                + (dual[key] / RHO if self.method == "FedAPM" else 0)
                for net, dual in zip(self.nets, self.duals, strict=True)
            ]
            self.server[key] = sum(votes) / M

    def participate(self, t, i):
        net = self.nets[i]
        with torch.no_grad():
            for name, p in net.named_parameters():
                if name not in CONVS:
                    p.copy_(self.server[name])
        start = deepcopy(net.state_dict())

        def v_terms(name, p):
            return SIGMA * (p - start[name]) if self.method == "FedAPM" else 0

        def u_terms(name, p):
            if self.method == "FedAPM":
                return self.duals[i][name] + RHO * (p - self.server[name])
            return MU * (p - start[name]) if self.method == "FedProx" else 0

        if self.method == "FedSim":
            for rows in self.orders(t, i, 2):
                self.sgd(i, rows, False, v_terms)
                self.sgd(i, rows, True, u_terms)
        else:
            if self.method in ("FedAPM", "FedAlt"):
                for rows in self.orders(t, i, 0):
                    self.sgd(i, rows, False, v_terms)
            for rows in self.orders(t, i, 1):
                self.sgd(i, rows, True, u_terms)
        for name, p in net.named_parameters():
            self.duals[i][name] += RHO * (p.detach() - self.server[name])

    def sgd(self, i, rows, convs, terms):
        x, y = data(i)
        net = self.nets[i]
        names = [n for n, _ in net.named_parameters() if (n in CONVS) == convs]
        tensors = [dict(net.named_parameters())[n] for n in names]
        loss = cross_entropy(net(x[rows]), y[rows])
        slopes = torch.autograd.grad(loss, tensors)
        with torch.no_grad():
            for name, p, slope in zip(names, tensors, slopes, strict=True):
                p -= LR * ((slope + DECAY * p) / M + terms(name, p))

    @staticmethod
    def orders(t, i, phase):
        rng = generator(SEED, "batches", t, i, phase)
        for _ in range(EPOCHS):
            order = torch.from_numpy(rng.permutation(N))
            yield from torch.split(order, BATCH)


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


@pytest.mark.parametrize("name", METHODS)
def test_three_rounds_as_the_authors_run_them(name):
    package, trainer = Package(make(name)), Trainer(name)
    for t, chosen in enumerate(CHOSEN):
        package.round(chosen)
        trainer.round(t, chosen)
        expected = flat(trainer.server.values())
        torch.testing.assert_close(package.server[0], expected, rtol=0, atol=1e-12)
        for i, client in enumerate(package.clients):
            own = flat(trainer.nets[i].parameters())
            torch.testing.assert_close(client["shared"], own, rtol=0, atol=1e-12)
            if name == "FedAPM":
                dual = flat(trainer.duals[i].values())
                torch.testing.assert_close(client["dual"], dual, rtol=0, atol=1e-12)
            else:
                assert client.keys() == {"shared", "personal"}
    start = flat(network().parameters())
    assert (package.server[0] - start).norm() > 0.01


@pytest.mark.parametrize("name", METHODS)
def test_sitting_out_changes_nothing_and_the_rest_is_frozen_only_to_spare_work(name):
    class NoModel:
        """A problem that says nothing of a model, so that nothing can be frozen."""

        def __init__(self, problem):
            self.shared, self.personal = problem.shared, problem.personal
            self.batches, self.gradient = problem.batches, problem.gradient
            problem.model.set_trainable = lambda part: None

    sparing, plain = Package(make(name)), Package(make(name), NoModel)
    before = deepcopy(sparing.clients[1])
    sparing.round([0, 2])
    plain.round([0, 2])
    assert torch.equal(sparing.server, plain.server)
    for key, value in before.items():
        assert torch.equal(sparing.clients[1][key], value)


@pytest.mark.parametrize("name", ["FedAvg", "FedProx"])
def test_the_dense_layers_stay_as_they_were_initialised(name):
    package = Package(make(name))
    start = package.server[0].clone()
    for chosen in CHOSEN:
        package.round(chosen)
    for model in [package.server[0], *(c["shared"] for c in package.clients)]:
        torch.testing.assert_close(model[CONV_SIZE:], start[CONV_SIZE:], rtol=0, atol=0)
        assert not torch.equal(model[:CONV_SIZE], start[:CONV_SIZE])


def test_fedprox_without_its_term_is_fedavg():
    prox, avg = Package(make("FedProx", mu=0.0)), Package(make("FedAvg"))
    for chosen in CHOSEN:
        prox.round(chosen)
        avg.round(chosen)
    assert torch.equal(prox.server, avg.server)


def test_with_all_taking_part_the_dense_layers_have_undamped_momentum():
    # v^{t+1} - v^t = (v^t - v^{t-1}) + 2 d^t - d^{t-1}, d the mean local displacement.
    package = Package(make("FedAPM"))
    models, moves = [package.server[0].clone()], []
    for _ in range(4):
        package.round(range(M))
        mean = torch.stack([c["shared"] for c in package.clients]).mean(0)
        moves.append(mean - models[-1])
        models.append(package.server[0].clone())
    for t in range(1, 4):
        expected = models[t] - models[t - 1] + 2 * moves[t] - moves[t - 1]
        step = models[t + 1] - models[t]
        torch.testing.assert_close(step, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("conv_size", [CONV_SIZE - 1, CONV_SIZE + 1, 10_000])
def test_a_cut_through_a_parameter_is_refused(conv_size):
    with pytest.raises(ConfigError, match=f"conv_size={conv_size} must end where"):
        Package(make("FedAlt", conv_size=conv_size)).round([0])


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match="conv_size must be at least 1"):
        make("FedAPM", conv_size=0)
    with pytest.raises(ValueError, match="work takes epochs or steps"):
        make("FedAlt", work=LocalBudget(xi=1.0, decay=0.5, max_epochs=3))
    assert make("FedAlt", work={"epochs": 3}).work == LocalBudget(epochs=3)
    assert replace(make("FedAPM"), rho=2.0).rho == 2.0


def test_the_cut_of_the_published_network():
    module = CNN((3, 32, 32), False, 10, channels=(16, 32), hidden=128)
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    assert official.FedAlt(
        lr=1, batch_size=1, work=LocalBudget(epochs=1)
    ).conv_size == sum(sizes[name] for name in CONVS)
    assert list(sizes)[:4] == list(CONVS)
